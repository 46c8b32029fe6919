use super::*;
use crate::replica::Settings;

const NOW: Time = Time(0);

fn members(n: u32) -> Vec<Member> {
    let address = |id: u32, port: u32| format!("host:{}", 7400 + 10 * id + port);
    let member = |id| Member {
        id: NodeId(id),
        incarnation: Incarnation(0),
        client_address: address(id, 0),
        peer_address: address(id, 1),
    };
    (0..n).map(member).collect()
}

/// Node `id` with disk `disk`, of `n`.
fn node(id: u32, disk: u64, n: u32, format: Option<&Format>) -> Formation {
    let settings = Settings {
        id: NodeId(id),
        incarnation: Incarnation(disk),
        initial_members: members(n),
        cluster_if_formed: ClusterId(1000 + disk),
        ..Settings::for_tests()
    };
    Formation::new(&settings, format.cloned())
}

fn connect(a: &mut Formation, b: &mut Formation) {
    let (to_b, to_a) = (a.hello(), b.hello());
    a.connected(NOW, &to_a);
    b.connected(NOW, &to_b);
}

fn envelope(format: &Format, from: u32, disk: u64, to: u32) -> Envelope {
    Envelope {
        cluster: format.cluster,
        incarnation: Incarnation(disk),
        from: NodeId(from),
        to: NodeId(to),
        term: Term(0),
        message: Message::Format(format.clone()),
    }
}

/// The Format of three nodes with disks 10, 11, 12.
fn format_of_three() -> Format {
    let mut lowest = node(0, 10, 3, None);
    connect(&mut lowest, &mut node(1, 11, 3, None));
    connect(&mut lowest, &mut node(2, 12, 3, None));
    lowest.create().expect("all have met")
}

#[test]
fn c17_the_lowest_forms_only_when_all_have_met() {
    let mut nodes: Vec<Formation> = (0..3).map(|id| node(id, 10 + u64::from(id), 3, None)).collect();
    assert_eq!(nodes[0].create(), None);
    assert_eq!(nodes[0].notes(), ["waiting for 2 of 3: nodes 1, 2"]);
    let [zero, one, two] = &mut nodes[..] else { unreachable!() };
    connect(zero, one);
    assert_eq!(zero.create(), None);
    assert_eq!(zero.notes(), ["waiting for 1 of 3: node 2"]);
    connect(one, two);
    assert_eq!(one.create(), None, "it is not the lowest");
    assert_eq!(one.notes(), ["all nodes are here: waiting for node 0 to form the cluster"]);
    connect(zero, two);
    zero.disconnected(NodeId(1));
    assert_eq!(zero.create(), None, "a connection that was there does not count");
    connect(zero, one);
    let format = zero.create().expect("all are here");
    assert_eq!(format.cluster, ClusterId(1010));
    let disks: Vec<u64> = format.members.iter().map(|member| member.incarnation.0).collect();
    assert_eq!(disks, [10, 11, 12]);
    assert_eq!(zero.create(), None, "only one is ever created");
    assert_eq!(zero.hello().cluster, format.cluster, "it counts as soon as it is decided");
}

#[test]
fn a_single_node_forms_by_itself() {
    let mut single = node(0, 10, 1, None);
    let format = single.create().expect("nobody else is to be met");
    assert_eq!(format.members.len(), 1);
    assert_eq!(single.announcement(NOW), []);
}

#[test]
fn c17_a_formatted_peer_keeps_the_lowest_from_forming() {
    // The schedule: 0 and 1 are formatted, the copy of 2 was lost, the disk of 0 is replaced (10 becomes 20).
    let old = format_of_three();
    let mut zero = node(0, 20, 3, None);
    let mut one = node(1, 11, 3, Some(&old));
    let mut two = node(2, 12, 3, None);
    let refusal = one.admit(&zero.hello()).expect_err("another life of node 0");
    assert_eq!(
        refusal,
        Refusal::OtherIncarnation { node: NodeId(0), theirs: Incarnation(20), expected: Incarnation(10) }
    );
    connect(&mut zero, &mut two);
    zero.connected(NOW, &one.hello());
    assert_eq!(zero.create(), None, "node 1 is formatted");
    connect(&mut one, &mut two);
    let mut gifts = Vec::new();
    one.give(NOW, &mut gifts);
    let Message::Format(format) = &gifts[0].message else { panic!("{gifts:?}") };
    two.offered(&gifts[0], format).expect("it names disk 12");
    assert_eq!(two.hello().cluster, old.cluster);
    assert_eq!(two.strangers(), [refusal], "and the replaced node 0 is disconnected");
}

#[test]
fn c17_a_format_is_taken_only_from_a_current_connection_and_only_if_it_names_this_disk() {
    let format = format_of_three();
    let other_disk = Format {
        members: format.members.iter().cloned().map(|m| Member { incarnation: Incarnation(99), ..m }).collect(),
        ..format.clone()
    };
    let mut unsorted = format.clone();
    unsorted.members.reverse();
    let mut twice = format.clone();
    twice.members.push(format.members[2].clone());
    let mut no_disk = format.clone();
    no_disk.members[2].incarnation = Incarnation(0);
    let table: [(&str, bool, Envelope, bool); 8] = [
        ("unsorted", true, envelope(&unsorted, 0, 10, 1), false),
        ("a member twice", true, envelope(&twice, 0, 10, 1), false),
        ("a member without a disk", true, envelope(&no_disk, 0, 10, 1), false),
        ("connected, named", true, envelope(&format, 0, 10, 1), true),
        ("no connection", false, envelope(&format, 0, 10, 1), false),
        ("from a former life of the sender", true, envelope(&format, 0, 9, 1), false),
        ("names another disk", true, envelope(&other_disk, 0, 10, 1), false),
        ("not the sender's own", true, Envelope { cluster: ClusterId(5), ..envelope(&format, 0, 10, 1) }, false),
    ];
    for (name, connected, envelope, taken) in table {
        let mut one = node(1, 11, 3, None);
        if connected {
            one.connected(NOW, &node(0, 10, 3, None).hello());
        }
        let Message::Format(offer) = &envelope.message else { unreachable!() };
        assert_eq!(one.offered(&envelope, offer).is_ok(), taken, "{name}");
        assert_eq!(one.hello().cluster != ClusterId(0), taken, "{name}");
    }
}

#[test]
fn a_formatted_node_refuses_another_format() {
    let format = format_of_three();
    let mut one = node(1, 11, 3, Some(&format));
    one.connected(NOW, &node(0, 10, 3, Some(&format)).hello());
    let other = Format { cluster: ClusterId(77), ..format.clone() };
    assert!(one.offered(&envelope(&other, 0, 10, 1), &other).is_err());
    assert_eq!(one.sender(&envelope(&other, 0, 10, 1)), Sender::Stranger);
    assert_eq!(one.cluster(), format.cluster);
}

#[test]
fn who_is_admitted() {
    let format = format_of_three();
    let hello = |id, disk, n, format| node(id, disk, n, format).hello();
    let elsewhere = Format { cluster: ClusterId(7), ..format.clone() };
    let at = |n: u32| NodeId(n);
    let unformatted = node(1, 11, 3, None);
    let formatted = node(1, 11, 3, Some(&format));
    let table = [
        ("new meets new", &unformatted, hello(0, 10, 3, None), Ok(())),
        ("new meets a member", &unformatted, hello(0, 10, 3, Some(&format)), Ok(())),
        ("member meets member", &formatted, hello(0, 10, 3, Some(&format)), Ok(())),
        ("member meets a named new one", &formatted, hello(2, 12, 3, None), Ok(())),
        ("its own number", &formatted, hello(1, 11, 3, None), Err(Refusal::OwnNumber(at(1)))),
        ("an unknown number", &formatted, hello(3, 13, 4, None), Err(Refusal::NotAMember(at(3)))),
        ("another list", &unformatted, hello(0, 10, 5, None), Err(Refusal::OtherMembers(at(0)))),
        (
            "another cluster",
            &formatted,
            hello(0, 10, 3, Some(&elsewhere)),
            Err(Refusal::OtherCluster { node: at(0), theirs: ClusterId(7), ours: format.cluster }),
        ),
        (
            "another disk",
            &formatted,
            hello(2, 99, 3, None),
            Err(Refusal::OtherIncarnation { node: at(2), theirs: Incarnation(99), expected: Incarnation(12) }),
        ),
    ];
    for (name, node, hello, expected) in table {
        assert_eq!(node.admit(&hello), expected, "{name}");
    }
}

#[test]
fn the_format_is_given_until_the_member_is_seen_to_have_it() {
    let format = format_of_three();
    let mut zero = node(0, 10, 3, Some(&format));
    zero.connected(NOW, &node(1, 11, 3, None).hello());
    let given = |zero: &mut Formation, now| {
        let mut messages = Vec::new();
        zero.give(now, &mut messages);
        messages.len()
    };
    assert_eq!(given(&mut zero, NOW), 1);
    assert_eq!(given(&mut zero, NOW), 0);
    let again = NOW + Span::millis(FORMAT_RESEND_MS);
    assert_eq!(zero.next_deadline(), again);
    assert_eq!(given(&mut zero, again), 1);
    assert!(!zero.has_member(NodeId(1)));
    assert_eq!(zero.sender(&envelope(&format, 1, 11, 0)), Sender::NewMember);
    assert_eq!(zero.sender(&envelope(&format, 1, 11, 0)), Sender::Member);
    assert!(zero.has_member(NodeId(1)));
    assert_eq!(zero.next_deadline(), Time::NEVER);
}

#[test]
fn differing_flags_are_named_and_the_format_counts() {
    let format = format_of_three();
    let mut settings = Settings { id: NodeId(0), incarnation: Incarnation(10), ..Settings::for_tests() };
    settings.initial_members = members(4);
    settings.initial_members.remove(2);
    settings.initial_members[1].peer_address = "elsewhere:1".into();
    let zero = Formation::new(&settings, Some(format.clone()));
    assert_eq!(
        zero.flag_warnings(),
        [
            "--peers puts node 1 at host:7410/elsewhere:1, the cluster was formed with host:7410/host:7411: the latter counts",
            "--peers names node 3, which the cluster does not know: ignored",
            "--peers leaves out node 2, which belongs to the cluster",
        ]
    );
    assert_eq!(zero.members(), format.members);
}

#[test]
fn refusals_are_shown_until_the_peer_connects() {
    let mut zero = node(0, 10, 3, None);
    let stranger = node(1, 11, 5, None).hello();
    let refusal = zero.admit(&stranger).expect_err("another list");
    assert!(zero.refused(NodeId(1), refusal.to_string()));
    assert!(!zero.refused(NodeId(1), refusal.to_string()), "said once");
    assert!(!zero.refused(NodeId(9), "a stranger".into()), "not remembered");
    let expected = "refused node 1: its --peers differ from this node's; all nodes of a new cluster need the same";
    assert_eq!(zero.notes(), ["waiting for 2 of 3: nodes 1, 2", expected]);
    zero.connected(NOW, &node(1, 11, 3, None).hello());
    assert_eq!(zero.notes(), ["waiting for 1 of 3: node 2"]);
}
