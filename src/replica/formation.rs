//! Formation (C-17): who belongs to the cluster, and how a cluster comes to be, once and knowingly.
//!
//! The lowest id creates the Format while it has open connections to all members, every one unformatted and with an
//! identical member list. Whoever has a Format gives it to each unformatted member that it names, until that one is seen
//! to have it. HELLO says "formatted" as soon as a Format is *being* stored: a node that is about to belong to one cluster
//! must not be counted into another.

use std::collections::BTreeMap;
use std::fmt;

use protocol::format::{Format, Hello, Member, Purpose};
use protocol::message::{Envelope, Message};
use protocol::reply::Reason;
use protocol::{ClusterId, Incarnation, NodeId, Term};

use super::effects::Settings;
use crate::limits::FORMAT_RESEND_MS;
use crate::time::{Span, Time};

/// Why a peer is not admitted. Shown by both ends: in the text log and in status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It claims this node's own number.
    OwnNumber(NodeId),
    /// Its number is not in the member list.
    NotAMember(NodeId),
    /// It belongs to another cluster.
    OtherCluster {
        /// Who.
        node: NodeId,
        /// The cluster it belongs to.
        theirs: ClusterId,
        /// The cluster this node belongs to.
        ours: ClusterId,
    },
    /// Another life of its disk belongs to the cluster.
    OtherIncarnation {
        /// Who.
        node: NodeId,
        /// What it says.
        theirs: Incarnation,
        /// What the Format says.
        expected: Incarnation,
    },
    /// Neither side has a Format, and the member lists differ.
    OtherMembers(NodeId),
}

/// This node's part in the formation, and what it knows of its peers' part.
#[derive(Debug)]
pub(super) struct Formation {
    id: NodeId,
    incarnation: Incarnation,
    /// Sorted by id.
    initial_members: Vec<Member>,
    cluster_if_formed: ClusterId,
    stage: Stage,
    links: BTreeMap<NodeId, Link>,
    /// The newest refusal of each node that has no connection now.
    refusals: BTreeMap<NodeId, String>,
}

#[derive(Debug)]
enum Stage {
    Unformatted,
    /// Decided, and on the way to the disk.
    Storing(Format),
    Formatted(Format),
}

/// One open, admitted connection.
#[derive(Debug)]
struct Link {
    hello: Hello,
    /// 0 until the peer is seen to be formatted, by its HELLO or by any message.
    cluster: ClusterId,
    /// When it is due to be given the Format (again).
    gift_due: Time,
}

/// What a peer's message is to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    /// A member of this node's cluster that was known as one.
    Member,
    /// A member that had been taken for unformatted until this message.
    NewMember,
    /// Not of this cluster, or of another life: the message is to be dropped.
    Stranger,
}

impl Formation {
    pub(super) fn new(settings: &Settings, format: Option<Format>) -> Self {
        let mut initial_members = settings.initial_members.clone();
        initial_members.sort();
        Self {
            id: settings.id,
            incarnation: settings.incarnation,
            initial_members,
            cluster_if_formed: settings.cluster_if_formed,
            stage: format.map_or(Stage::Unformatted, Stage::Formatted),
            links: BTreeMap::new(),
            refusals: BTreeMap::new(),
        }
    }

    /// The Format that counts for HELLO and for refusals: durable, or on the way to be.
    pub(super) fn format(&self) -> Option<&Format> {
        match &self.stage {
            Stage::Unformatted => None,
            Stage::Storing(format) | Stage::Formatted(format) => Some(format),
        }
    }

    pub(super) fn cluster(&self) -> ClusterId {
        self.format().map_or(ClusterId(0), |format| format.cluster)
    }

    /// The Format's members, or those of the flags while there is none.
    pub(super) fn members(&self) -> &[Member] {
        self.format().map_or(&self.initial_members, |format| &format.members)
    }

    pub(super) fn hello(&self) -> Hello {
        Hello {
            version_min: protocol::VERSION_MIN,
            version_max: protocol::VERSION_MAX,
            feature_level: protocol::FEATURE_LEVEL,
            purpose: Purpose::Peer,
            cluster: self.cluster(),
            node: self.id,
            incarnation: self.incarnation,
            initial_members: if self.format().is_some() { Vec::new() } else { self.initial_members.clone() },
        }
    }

    pub(super) fn admit(&self, hello: &Hello) -> Result<(), Refusal> {
        let node = hello.node;
        if node == self.id {
            return Err(Refusal::OwnNumber(node));
        }
        let Some(member) = self.members().iter().find(|member| member.id == node) else {
            return Err(Refusal::NotAMember(node));
        };
        match self.format() {
            Some(format) if hello.cluster != ClusterId(0) && hello.cluster != format.cluster => {
                Err(Refusal::OtherCluster { node, theirs: hello.cluster, ours: format.cluster })
            }
            Some(_) if sabotage!(IncarnationIgnored, hello.incarnation != member.incarnation, false) => {
                Err(Refusal::OtherIncarnation { node, theirs: hello.incarnation, expected: member.incarnation })
            }
            None if hello.cluster == ClusterId(0) && !self.same_members(&hello.initial_members) => {
                Err(Refusal::OtherMembers(node))
            }
            _ => Ok(()),
        }
    }

    /// A connection is up; a former one of the same peer is forgotten. Its HELLO must be admissible.
    pub(super) fn connected(&mut self, now: Time, hello: &Hello) {
        assert_eq!(self.admit(hello), Ok(()), "a refused peer is not connected");
        self.refusals.remove(&hello.node);
        let link = Link { hello: hello.clone(), cluster: hello.cluster, gift_due: now };
        self.links.insert(hello.node, link);
    }

    /// Returns whether there was a connection.
    pub(super) fn disconnected(&mut self, id: NodeId) -> bool {
        self.links.remove(&id).is_some()
    }

    /// Remembers a refusal. Returns whether it is news.
    pub(super) fn refused(&mut self, node: NodeId, text: String) -> bool {
        // A stranger's number is not remembered: only so many refusals are kept as there are members.
        if !self.members().iter().any(|member| member.id == node) {
            return false;
        }
        self.refusals.insert(node, text.clone()) != Some(text)
    }

    /// Whether the peer is connected and seen to belong to this node's cluster.
    pub(super) fn has_member(&self, id: NodeId) -> bool {
        let cluster = self.cluster();
        cluster != ClusterId(0) && self.links.get(&id).is_some_and(|link| link.cluster == cluster)
    }

    pub(super) fn connected_ids(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.links.keys().copied()
    }

    /// Looks at a message's sender. Every message of a formatted peer shows that it is formatted.
    pub(super) fn sender(&mut self, envelope: &Envelope) -> Sender {
        let Some(format) = self.format() else { return Sender::Stranger };
        let named = names(format, envelope.from, envelope.incarnation);
        if envelope.to != self.id || envelope.from == self.id || envelope.cluster != format.cluster || !named {
            return Sender::Stranger;
        }
        match self.links.get_mut(&envelope.from) {
            Some(link) if link.cluster == ClusterId(0) => {
                link.cluster = envelope.cluster;
                Sender::NewMember
            }
            _ => Sender::Member,
        }
    }

    /// A Format has arrived at an unformatted node. Taken only over a current connection, and only if it names this life of
    /// this node's disk.
    pub(super) fn offered(&mut self, envelope: &Envelope, format: &Format) -> Result<Format, &'static str> {
        let unformatted = matches!(self.stage, Stage::Unformatted);
        if !sabotage!(SecondFormatTaken, unformatted, true) {
            return Err("this node has one");
        }
        let link = self.links.get_mut(&envelope.from).ok_or("its sender is not connected")?;
        if link.hello.incarnation != envelope.incarnation {
            return Err("it was sent by another life of its sender");
        }
        if format.cluster == ClusterId(0) || envelope.cluster != format.cluster {
            return Err("it is not its sender's own");
        }
        if !names(format, self.id, self.incarnation) || !names(format, envelope.from, envelope.incarnation) {
            return Err("it does not name both ends");
        }
        if !is_sound(format) {
            return Err("its members are not sorted, each once, each with its disk");
        }
        link.cluster = format.cluster;
        self.stage = Stage::Storing(format.clone());
        Ok(format.clone())
    }

    /// Creates the cluster's Format if it is this node's turn and all have met.
    pub(super) fn create(&mut self) -> Option<Format> {
        if !matches!(self.stage, Stage::Unformatted) || !self.is_lowest() || !self.all_met_unformatted() {
            return None;
        }
        let members = self.initial_members.iter().map(|member| {
            let incarnation = self.links.get(&member.id).map_or(self.incarnation, |link| link.hello.incarnation);
            Member { incarnation, ..member.clone() }
        });
        let format = Format { cluster: self.cluster_if_formed, members: members.collect() };
        assert!(names(&format, self.id, self.incarnation), "the flags name this node");
        self.stage = Stage::Storing(format.clone());
        Some(format)
    }

    /// The peers whose connections end because they do not belong to the Format that was just decided.
    pub(super) fn strangers(&self) -> Vec<Refusal> {
        self.links.values().filter_map(|link| self.admit(&link.hello).err()).collect()
    }

    /// What waits for the Format's durability: it goes to everybody, so that all learn that this node has it.
    pub(super) fn announcement(&mut self, now: Time) -> Vec<Envelope> {
        for link in self.links.values_mut() {
            link.gift_due = now + Span::millis(FORMAT_RESEND_MS);
        }
        let ids: Vec<NodeId> = self.links.keys().copied().collect();
        ids.into_iter().map(|to| self.gift(to)).collect()
    }

    /// The Format is durable.
    pub(super) fn stored(&mut self) -> &Format {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Unformatted) {
            Stage::Storing(format) => Stage::Formatted(format),
            other => panic!("no Format was being stored: {other:?}"),
        };
        self.format().expect("it was just set")
    }

    /// Gives the Format to every connected peer that is not seen to have it and whose turn it is.
    pub(super) fn give(&mut self, now: Time, messages: &mut Vec<Envelope>) {
        let durable = matches!(self.stage, Stage::Formatted(_));
        if !sabotage!(FormatLeavesEarly, durable, self.format().is_some()) {
            return;
        }
        let due = |link: &Link| link.cluster == ClusterId(0) && link.gift_due <= now;
        let ids: Vec<NodeId> = self.links.iter().filter(|(_, link)| due(link)).map(|(id, _)| *id).collect();
        for id in ids {
            self.links.get_mut(&id).expect("it was just found").gift_due = now + Span::millis(FORMAT_RESEND_MS);
            messages.push(self.gift(id));
        }
    }

    pub(super) fn next_deadline(&self) -> Time {
        let durable = matches!(self.stage, Stage::Formatted(_));
        if !sabotage!(FormatLeavesEarly, durable, self.format().is_some()) {
            return Time::NEVER;
        }
        let unformatted = self.links.values().filter(|link| link.cluster == ClusterId(0));
        unformatted.map(|link| link.gift_due).min().unwrap_or(Time::NEVER)
    }

    /// For a person: who is missing.
    pub(super) fn notes(&self) -> Vec<String> {
        let missing: Vec<NodeId> = self
            .members()
            .iter()
            .map(|member| member.id)
            .filter(|id| *id != self.id && !self.links.contains_key(id))
            .collect();
        let mut notes = Vec::new();
        match (self.format(), missing.is_empty()) {
            (None, false) => {
                notes.push(format!("waiting for {} of {}: {}", missing.len(), self.members().len(), nodes(&missing)));
            }
            (None, true) => {
                notes.push(format!("all nodes are here: waiting for node {} to form the cluster", self.lowest()))
            }
            (Some(_), false) => notes.push(format!("not connected: {}", nodes(&missing))),
            (Some(_), true) => {}
        }
        notes.extend(self.refusals.values().cloned());
        notes
    }

    /// How the flags differ from the Format, which rules.
    pub(super) fn flag_warnings(&self) -> Vec<String> {
        let Some(format) = self.format() else { return Vec::new() };
        let mut warnings = Vec::new();
        for flag in &self.initial_members {
            match format.members.iter().find(|member| member.id == flag.id) {
                None => {
                    warnings.push(format!("--peers names node {}, which the cluster does not know: ignored", flag.id))
                }
                Some(member)
                    if (&member.client_address, &member.peer_address) != (&flag.client_address, &flag.peer_address) =>
                {
                    warnings.push(format!(
                        "--peers puts node {} at {}/{}, the cluster was formed with {}/{}: the latter counts",
                        flag.id, flag.client_address, flag.peer_address, member.client_address, member.peer_address
                    ));
                }
                Some(_) => {}
            }
        }
        let unnamed = |member: &&Member| !self.initial_members.iter().any(|flag| flag.id == member.id);
        if !self.initial_members.is_empty() {
            for member in format.members.iter().filter(unnamed) {
                warnings.push(format!("--peers leaves out node {}, which belongs to the cluster", member.id));
            }
        }
        warnings
    }

    fn gift(&self, to: NodeId) -> Envelope {
        let format = self.format().expect("only a Format's holder gives it").clone();
        Envelope {
            cluster: format.cluster,
            incarnation: self.incarnation,
            from: self.id,
            to,
            term: Term(0),
            message: Message::Format(format),
        }
    }

    fn same_members(&self, theirs: &[Member]) -> bool {
        let mut theirs = theirs.to_vec();
        theirs.sort();
        theirs == self.initial_members
    }

    fn lowest(&self) -> NodeId {
        self.initial_members.first().map_or(self.id, |member| member.id)
    }

    fn is_lowest(&self) -> bool {
        self.lowest() == self.id && self.initial_members.iter().any(|member| member.id == self.id)
    }

    fn all_met_unformatted(&self) -> bool {
        let met = |member: &Member| {
            member.id == self.id || self.links.get(&member.id).is_some_and(|link| link.cluster == ClusterId(0))
        };
        let met = self.initial_members.iter().filter(|member| met(member)).count();
        met >= sabotage!(FormedByMajority, self.initial_members.len(), self.initial_members.len() / 2 + 1)
    }
}

impl Refusal {
    /// Why, for a program.
    pub fn reason(&self) -> Reason {
        match self {
            Refusal::OtherCluster { .. } => Reason::WrongCluster,
            _ => Reason::None,
        }
    }

    /// Who was refused.
    pub fn node(&self) -> NodeId {
        match *self {
            Refusal::OwnNumber(node) | Refusal::NotAMember(node) | Refusal::OtherMembers(node) => node,
            Refusal::OtherCluster { node, .. } | Refusal::OtherIncarnation { node, .. } => node,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::OwnNumber(node) => write!(f, "refused a peer that calls itself node {node}, as this node does"),
            Refusal::NotAMember(node) => write!(f, "refused node {node}: it is not a member of this cluster"),
            Refusal::OtherMembers(node) => {
                write!(f, "refused node {node}: its --peers differ from this node's; all nodes of a new cluster need the same")
            }
            Refusal::OtherCluster { node, theirs, ours } => {
                write!(f, "refused node {node}: it belongs to cluster {:016x}, this node to {:016x}", theirs.0, ours.0)
            }
            Refusal::OtherIncarnation { node, theirs, expected } => write!(
                f,
                "refused node {node}: its disk {:016x} is not the one that joined the cluster, {:016x}",
                theirs.0, expected.0
            ),
        }
    }
}

/// Whether this can be a configuration at all: stored once, it would be believed at every start.
fn is_sound(format: &Format) -> bool {
    format.members.windows(2).all(|pair| pair[0].id < pair[1].id)
        && format.members.iter().all(|member| member.incarnation != Incarnation(0))
}

/// Whether the Format names this life of this node's disk.
pub(super) fn names(format: &Format, id: NodeId, incarnation: Incarnation) -> bool {
    let same = |theirs| sabotage!(IncarnationIgnored, theirs == incarnation, true);
    format.members.iter().any(|member| member.id == id && same(member.incarnation))
}

/// "node 4" or "nodes 4, 5, 6".
fn nodes(ids: &[NodeId]) -> String {
    let list: Vec<String> = ids.iter().map(NodeId::to_string).collect();
    format!("node{} {}", if ids.len() == 1 { "" } else { "s" }, list.join(", "))
}

#[cfg(test)]
mod tests;
