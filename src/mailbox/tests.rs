use super::*;

#[cfg(not(loom))]
mod threads {
    use super::*;
    use std::time::Duration;

    fn parking() -> (Arc<ThreadPark>, Arc<Parking>) {
        let sleep = Arc::new(ThreadPark::default());
        (sleep.clone(), Parking::new(sleep))
    }

    #[test]
    fn two_batches_travel_and_the_third_is_filled() {
        let (mut sender, mut receiver) = link::<Vec<u32>>(parking().1, parking().1);
        assert_eq!(sender.flush(), Flush::Empty);
        for n in 0..2 {
            sender.batch().push(n);
            assert_eq!(sender.flush(), Flush::Sent);
        }
        sender.batch().push(2);
        assert_eq!(sender.flush(), Flush::Busy);
        sender.batch().push(3);
        assert!(!sender.can_flush());
        assert_eq!(*receiver.take().expect("the first"), [0]);
        assert!(sender.can_flush());
        assert_eq!(sender.flush(), Flush::Sent);
        assert_eq!(*receiver.take().expect("the second"), [1]);
        assert_eq!(*receiver.take().expect("what was filled meanwhile"), [2, 3]);
        assert!(receiver.take().is_none());
    }

    #[test]
    fn capacity_comes_back() {
        let (mut sender, mut receiver) = link::<Vec<u32>>(parking().1, parking().1);
        for round in 0..6 {
            sender.batch().extend(0..1000);
            assert_eq!(sender.flush(), Flush::Sent);
            drop(receiver.take());
            assert!(round < 2 || sender.batch().capacity() >= 1000, "round {round}");
            assert!(sender.batch().is_empty());
        }
    }

    #[test]
    fn a_wake_before_the_sleep_ends_it() {
        let (sleep, parking) = parking();
        assert!(parking.may_sleep(|| true));
        parking.notify();
        sleep.sleep(None); // would hang if the wake were lost
        parking.awake();
        parking.notify(); // nobody sleeps: no wake
        sleep.sleep(Some(Duration::ZERO));
    }

    #[test]
    fn everything_arrives_in_order_through_sleeping_threads() {
        let (to_sleep, to) = parking();
        let (from_sleep, from) = parking();
        let (mut sender, mut receiver) = link::<Vec<u64>>(to.clone(), from.clone());
        let last = 200_000;
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for n in 1..=last {
                    sender.batch().push(n);
                    sender.flush();
                }
                while sender.flush() == Flush::Busy {
                    if from.may_sleep(|| !sender.can_flush()) {
                        from_sleep.sleep(None);
                    }
                    from.awake();
                }
            });
            let mut expected = 1;
            while expected <= last {
                while let Some(batch) = receiver.take() {
                    for n in batch.iter() {
                        assert_eq!(*n, expected);
                        expected += 1;
                    }
                }
                if to.may_sleep(|| receiver.is_empty()) && expected <= last {
                    to_sleep.sleep(None);
                }
                to.awake();
            }
        });
    }
}

/// The shipped code under every interleaving that loom reaches; `cargo test --lib loom` with `--cfg loom`.
#[cfg(loom)]
mod loom_models {
    use super::*;
    use loom::sync::Notify;

    struct LoomWake(Notify);

    impl Wake for LoomWake {
        fn wake(&self) {
            self.0.notify();
        }
    }

    fn parking() -> (Arc<LoomWake>, Arc<Parking>) {
        let wake = Arc::new(LoomWake(Notify::new()));
        (wake.clone(), Parking::new(wake))
    }

    /// Loom reports a deadlock if a wake is lost.
    #[test]
    fn loom_a_receiver_that_sleeps_is_woken() {
        loom::model(|| {
            let (sleep, consumer) = parking();
            let (_, producer) = parking();
            let (mut sender, mut receiver) = link::<Vec<u32>>(consumer.clone(), producer);
            let thread = loom::thread::spawn(move || {
                for n in 0..2 {
                    sender.batch().push(n);
                    assert_eq!(sender.flush(), Flush::Sent);
                }
            });
            let mut seen = Vec::new();
            while seen.len() < 2 {
                while let Some(batch) = receiver.take() {
                    seen.extend(batch.iter().copied());
                }
                if seen.len() < 2 && consumer.may_sleep(|| receiver.is_empty()) {
                    sleep.0.wait();
                }
                consumer.awake();
            }
            assert_eq!(seen, [0, 1]);
            thread.join().expect("no panic");
        });
    }

    #[test]
    fn loom_a_starved_sender_is_woken() {
        loom::model(|| {
            let (_, consumer) = parking();
            let (sleep, producer) = parking();
            let (mut sender, mut receiver) = link::<Vec<u32>>(consumer, producer.clone());
            for n in 0..2 {
                sender.batch().push(n);
                assert_eq!(sender.flush(), Flush::Sent);
            }
            let thread = loom::thread::spawn(move || drop(receiver.take()));
            sender.batch().push(2);
            while sender.flush() != Flush::Sent {
                if producer.may_sleep(|| !sender.can_flush()) {
                    sleep.0.wait();
                }
                producer.awake();
            }
            thread.join().expect("no panic");
        });
    }
}
