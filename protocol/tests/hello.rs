//! HELLO: recognised or refused from the first bytes; versions agreed on; and what unknown numbers become.

use raftkv_protocol::error::{DecodeError, FrameError, VersionError};
use raftkv_protocol::format::{negotiate, Hello, HelloReply, Refusal};
use raftkv_protocol::frame::split;
use raftkv_protocol::kind::{Group, Kind};
use raftkv_protocol::reply::{Effect, Reason, Status};

fn speaking(version_min: u16, version_max: u16) -> Hello {
    Hello { version_min, version_max, ..Hello::client() }
}

#[test]
fn both_sides_find_the_newest_common_version() {
    for (ours, theirs, common) in [
        ((1, 1), (1, 1), Some(1)),
        ((1, 3), (2, 5), Some(3)),
        ((2, 5), (1, 3), Some(3)),
        ((1, 4), (2, 3), Some(3)),
        ((1, 1), (2, 3), None),
        ((4, 5), (2, 3), None),
    ] {
        let (ours, theirs) = (speaking(ours.0, ours.1), speaking(theirs.0, theirs.1));
        let expected = common.ok_or(VersionError {
            ours: (ours.version_min, ours.version_max),
            theirs: (theirs.version_min, theirs.version_max),
        });
        assert_eq!(negotiate(&ours, &theirs), expected);
        assert_eq!(negotiate(&theirs, &ours).ok(), common, "the other side finds the same");
    }
}

#[test]
fn a_range_that_is_upside_down_has_nothing_in_common() {
    assert!(negotiate(&speaking(1, 1), &speaking(2, 1)).is_err());
    assert!(negotiate(&speaking(2, 1), &speaking(1, 1)).is_err());
}

#[test]
fn a_hello_is_recognised_from_any_number_of_its_bytes() {
    let answers = [HelloReply::Accepted(Hello::client()), HelloReply::Refused(Refusal::new(Reason::Version, "no"))];
    let mut frames = vec![Vec::new(), Vec::new(), Vec::new()];
    Hello::client().encode(&mut frames[0]);
    answers[0].encode(&mut frames[1]);
    answers[1].encode(&mut frames[2]);
    for frame in frames {
        for end in 0..=frame.len() {
            assert_eq!(Hello::recognise(&frame[..end]), Ok(()), "{end} bytes");
        }
    }
}

#[test]
fn other_protocols_are_not_taken_for_ours() {
    let strangers: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2",
        &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01],
        b"\n\n\n\n\n\n\n\n",
    ];
    for stranger in strangers {
        assert_eq!(Hello::recognise(&stranger[..4]), Err(DecodeError::NotRaftkv), "{stranger:?}");
        assert!(matches!(split(stranger, Hello::FRAME_BYTES_MAX), Err(FrameError::TooLong { .. })));
    }
}

#[test]
fn a_wrong_kind_or_magic_is_seen_before_the_frame_is_complete() {
    let mut hello = Vec::new();
    Hello::client().encode(&mut hello);
    let mut other_kind = hello.clone();
    other_kind[12] = Kind::Get as u8;
    assert_eq!(Hello::recognise(&other_kind[..13]), Err(DecodeError::NotRaftkv));
    for at in 16..24 {
        let mut other_magic = hello.clone();
        other_magic[at] ^= 0x20;
        assert_eq!(Hello::recognise(&other_magic[..at]), Ok(()));
        assert_eq!(Hello::recognise(&other_magic[..=at]), Err(DecodeError::NotRaftkv));
    }
}

#[test]
fn unknown_statuses_are_errors_and_unknown_reasons_and_effects_are_not() {
    for number in 0..=u16::MAX {
        match Status::from_wire(number) {
            Ok(status) => assert_eq!(status.code(), number),
            Err(error) => assert_eq!(error, DecodeError::Value { field: "status", value: number.into() }),
        }
        let reason = Reason::from_wire(number);
        assert!(reason as u16 == number || reason == Reason::Other, "{number}");
    }
    assert!(Status::ALL.iter().all(|status| Status::from_wire(status.code()) == Ok(*status)));
    assert!(Reason::ALL.iter().all(|reason| Reason::from_wire(*reason as u16) == *reason));
    let effects: Vec<Effect> = (0..=255).map(Effect::from_wire).collect();
    assert_eq!(effects[..3], [Effect::None, Effect::Applied, Effect::Unknown]);
    assert!(effects[3..].iter().all(|effect| *effect == Effect::Unknown));
}

#[test]
fn the_table_of_kinds_is_consistent() {
    for number in 0..=255_u8 {
        match Kind::from_wire(number) {
            Ok(kind) => assert_eq!((kind as u8, Some(kind.group())), (number, Group::of(number))),
            Err(error) => assert_eq!(error, DecodeError::UnknownKind(number)),
        }
    }
    assert_eq!(Kind::ALL.len(), (0..=255).filter(|number| Kind::from_wire(*number).is_ok()).count());
    assert!(Kind::ALL.windows(2).all(|pair| pair[0] < pair[1]), "in order, none twice");
}
