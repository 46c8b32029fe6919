//! Errors, in three lines for people (what happened, whether it took effect, what to do) or as one JSON object.

use std::io::Write as _;
use std::process::ExitCode;

use client::{Cause, Error, More};
use protocol::reply::{Effect, Reason, RefusedOperation, Status};
use protocol::Index;
use serde_json::json;

use crate::args::Output;
use crate::exit;

/// Something went wrong, ready to be shown.
#[derive(Debug)]
pub(crate) struct Report {
    /// A short name for scripts.
    pub(crate) name: String,
    pub(crate) exit: u8,
    pub(crate) effect: Effect,
    pub(crate) what: String,
    pub(crate) hint: String,
    pub(crate) leader: Option<String>,
}

impl Report {
    /// The words on the command line make no sense.
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self {
            name: "USAGE".to_owned(),
            exit: exit::USAGE,
            effect: Effect::None,
            what: what.into(),
            hint: "`raftkv --help` shows the commands, `raftkv COMMAND --help` the forms of keys, values and flags"
                .to_owned(),
            leader: None,
        }
    }

    /// Something on this machine failed.
    pub(crate) fn local(what: impl Into<String>, effect: Effect) -> Self {
        let hint = match effect {
            Effect::None => "this machine is at fault, not the cluster: mend what the message names, and say it again",
            Effect::Applied | Effect::Unknown => {
                "this machine is at fault, not the cluster: before it is said again, look what is there (`raftkv get`, `raftkv scan`)"
            }
        };
        let hint = hint.to_owned();
        Self { name: "LOCAL".to_owned(), exit: exit::OTHER, effect, what: what.into(), hint, leader: None }
    }

    /// It was applied, and the line that tells so cannot be written.
    pub(crate) fn unsaid(line: &str, error: &std::io::Error) -> Self {
        let answer = line.lines().next().unwrap_or_default();
        let what = format!("it was applied, but standard output cannot be written: {error}; the answer was: {answer}");
        let hint = "do not say it again, it would be applied twice".to_owned();
        Self { hint, ..Self::local(what, Effect::Applied) }
    }

    /// An operation on `subject` (a key, say) ended with an error.
    pub(crate) fn of(error: &Error, subject: &str) -> Self {
        let what = match (error.status, error.cause) {
            (Status::NotFound, _) => format!("there is no key `{subject}`"),
            (Status::Exists, _) => format!("the key `{subject}` exists"),
            (Status::ConditionFailed, _) => condition(error, subject),
            (Status::Redirect, _) => {
                let leader = error.leader.as_deref().unwrap_or("not known here");
                format!("302: this node does not lead; the leader is {leader}")
            }
            _ => error.to_string(),
        };
        Self {
            name: name(error),
            exit: exit::code(error.status, error.reason),
            effect: error.effect,
            what,
            hint: hint(error),
            leader: error.leader.clone(),
        }
    }

    /// A measurement has no figures. One that loads may have written keys of its own, but nothing that anybody waits for; and nothing
    /// at all where it lacks a program, or a file is in the way: that is found before anything is loaded.
    pub(crate) fn not_measured(wanted: &str, error: &std::io::Error, effect: Effect) -> Self {
        use std::io::ErrorKind::{AlreadyExists, NotFound, PermissionDenied};
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        let report = match inner {
            Some(inner) => Self::of(inner, "bench"),
            None if error.kind() == std::io::ErrorKind::InvalidInput => return Self::usage(error.to_string()),
            None if matches!(error.kind(), NotFound | PermissionDenied | AlreadyExists) => Self {
                name: "NOT_MEASURED".to_owned(),
                hint: "mend what is named, and run it again".to_owned(),
                ..Self::local(error.to_string(), Effect::None)
            },
            None => {
                let hint = match effect {
                    Effect::None => "`raftkv status` shows how the cluster is",
                    Effect::Applied | Effect::Unknown => {
                        "`raftkv status` shows how the cluster is; a bench of servers of its own needs room on this machine"
                    }
                };
                let name = "NOT_MEASURED".to_owned();
                Self { name, hint: hint.to_owned(), ..Self::local(error.to_string(), effect) }
            }
        };
        Self { what: format!("{wanted}: {}", report.what), ..report }
    }

    /// Saying it again would not help.
    pub(crate) fn is_usage(&self) -> bool {
        self.exit == exit::USAGE
    }

    /// Shows it on standard error and gives the exit code.
    pub(crate) fn show(&self, output: Output) -> ExitCode {
        let text = match output {
            Output::Text => self.text(),
            Output::Json => self.json(),
        };
        // Nowhere is left to say that standard error cannot be written; the exit code stands.
        let _ = writeln!(std::io::stderr(), "{text}");
        ExitCode::from(self.exit)
    }

    fn text(&self) -> String {
        let effect = match self.effect {
            Effect::None if self.exit == exit::NOT_APPLIED => "not applied (safe to retry)",
            Effect::None => "not applied",
            Effect::Applied => "applied",
            Effect::Unknown => "unknown (it may have been applied, or may yet be)",
        };
        format!("error[{}]: {}\neffect: {effect}\nhint: {}", self.name, self.what, self.hint)
    }

    fn json(&self) -> String {
        let effect = match self.effect {
            Effect::None => "none",
            Effect::Applied => "applied",
            Effect::Unknown => "unknown",
        };
        let (name, what, hint, leader, exit) = (&self.name, &self.what, &self.hint, &self.leader, self.exit);
        json!({ "ok": false, "code": name, "exit": exit, "effect": effect, "message": what, "hint": hint, "leader": leader })
            .to_string()
    }
}

fn name(error: &Error) -> String {
    let name = match (error.cause, error.reason) {
        (Cause::Unreachable, _) => "UNREACHABLE".to_owned(),
        (Cause::Incompatible, _) => "INCOMPATIBLE".to_owned(),
        (Cause::ConnectionLost, _) => "CONNECTION_LOST".to_owned(),
        (Cause::TooLong, _) => "TOO_LARGE".to_owned(),
        (Cause::ViewLost, _) => "VIEW_LOST".to_owned(),
        (_, Reason::None) if error.cause == Cause::Deadline => "DEADLINE".to_owned(),
        (_, Reason::NotANumber) => "NOT_A_NUMBER".to_owned(),
        (_, Reason::None) => format!("{:?}", error.status),
        (_, reason) => format!("{reason:?}"),
    };
    let mut upper = String::new();
    for (position, letter) in name.char_indices() {
        if position > 0 && letter.is_uppercase() && upper.ends_with(|last: char| last.is_lowercase()) {
            upper.push('_');
        }
        upper.push(letter);
    }
    upper.to_uppercase()
}

/// Which condition did not hold.
fn condition(error: &Error, subject: &str) -> String {
    match (error.reason, error.more) {
        (Reason::RevisionMismatch, More::Refused(RefusedOperation { revision: Index(0), .. })) => {
            format!("the key `{subject}` does not exist")
        }
        (Reason::RevisionMismatch, More::Refused(refused)) => {
            format!("the key `{subject}` is at revision {}", refused.revision)
        }
        (reason, _) => format!("the key `{subject}`: {reason}"),
    }
}

fn hint(error: &Error) -> String {
    if let (Status::Unknown, More::Number(number)) = (error.status, error.more) {
        return format!("`raftkv outcome {}/{}` says what became of it", number.session, number.sequence);
    }
    let text = match (error.status, error.reason) {
        _ if error.cause == Cause::ViewLost => {
            "start it again: another node takes it, and shows all keys as of one later moment"
        }
        _ if error.cause == Cause::TooLong => "a key has at most 4 KiB, a value 1 MiB: split it",
        (Status::NotFound, _) => "`raftkv scan` lists keys",
        (Status::Exists, _) => "`raftkv update` replaces a value",
        (_, Reason::RevisionMismatch) => "read the key again: `raftkv get -o json` shows its revision",
        (_, Reason::Overflow) => "`raftkv get` shows the number: add less, or set it anew with `raftkv update`",
        (_, Reason::NotANumber) => "`raftkv update` sets it to a number",
        (Status::Redirect, _) => "ask the leader, or leave --no-redirect away",
        (Status::Unknown, _) => {
            "read the key to see whether it was applied; an update may be repeated, a put may then find itself"
        }
        (_, Reason::Forming) => "`raftkv status` shows which nodes the cluster waits for",
        (_, Reason::NoLeader | Reason::NotLeader | Reason::LeaderChanged) => {
            "`raftkv status` shows which nodes are there; a leader needs a majority; try again"
        }
        (_, Reason::Overload) => "try again later, or with less at once",
        (_, Reason::KeyTooLarge) => "a key has at most 4 KiB, or what the server's key-bytes-max says if that is less",
        (_, Reason::FrameTooLarge) => {
            "a key has at most 4 KiB and a value 1 MiB, or what the server's key-bytes-max and value-bytes-max say if that is less"
        }
        (_, Reason::ValueTooLarge) => {
            "a value has at most 1 MiB, or what the server's value-bytes-max says if that is less: split it"
        }
        (_, Reason::EmptyKey) => "a key has at least one byte",
        (Status::ViewExpired, _) => "the scan was not finished in time: start it again",
        _ if error.cause == Cause::Unreachable => {
            "is a cluster running? `raftkv dev` starts a local one; --endpoints or RAFTKV_ENDPOINTS say where"
        }
        _ if error.cause == Cause::Incompatible => "is that the port for clients? (a peer's port is another)",
        _ if error.cause == Cause::Deadline || error.reason == Reason::Deadline => {
            "`raftkv status` shows how the cluster is; --timeout gives it more time"
        }
        _ => "`raftkv status` shows how the cluster is",
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: Status, reason: Reason, effect: Effect, cause: Cause) -> Error {
        Error {
            status,
            reason,
            effect,
            cause,
            leader: None,
            endpoint: Some("127.0.0.1:7400".to_owned()),
            message: String::new(),
            attempts: 1,
            more: More::Nothing,
        }
    }

    #[test]
    fn three_lines_say_what_happened_what_took_effect_and_what_to_do() {
        let exists = error(Status::Exists, Reason::None, Effect::None, Cause::Answered);
        assert_eq!(
            Report::of(&exists, "hello").text(),
            "error[EXISTS]: the key `hello` exists\neffect: not applied\nhint: `raftkv update` replaces a value"
        );
        let lost = error(Status::Unknown, Reason::None, Effect::Unknown, Cause::ConnectionLost);
        let text = Report::of(&lost, "hello").text();
        assert!(text.starts_with("error[CONNECTION_LOST]: the connection at 127.0.0.1:7400 ended"), "{text}");
        assert!(text.contains("\neffect: unknown ("), "{text}");
        let leaderless = error(Status::NotExecuted, Reason::NoLeader, Effect::None, Cause::Deadline);
        let text = Report::of(&leaderless, "hello").text();
        assert!(text.starts_with("error[NO_LEADER]: "), "{text}");
        assert!(text.contains("\neffect: not applied (safe to retry)\n"), "{text}");
    }

    #[test]
    fn c24_an_unknown_outcome_says_how_to_ask_about_it() {
        let number = client::Number { session: protocol::SessionId(40), sequence: protocol::Sequence(7) };
        let mut unknown = error(Status::Unknown, Reason::None, Effect::Unknown, Cause::Deadline);
        unknown.more = More::Number(number);
        let text = Report::of(&unknown, "hello").text();
        assert!(text.ends_with("\nhint: `raftkv outcome 40/7` says what became of it"), "{text}");
    }

    #[test]
    fn a_condition_that_did_not_hold_says_what_was_found() {
        let mut failed = error(Status::ConditionFailed, Reason::RevisionMismatch, Effect::None, Cause::Answered);
        for (revision, words) in [(0, "does not exist"), (42, "is at revision 42")] {
            failed.more = More::Refused(RefusedOperation { position: 0, revision: Index(revision) });
            let report = Report::of(&failed, "hello");
            assert_eq!((report.exit, report.what.as_str()), (4, format!("the key `hello` {words}").as_str()));
        }
    }

    #[test]
    fn what_was_not_sent_and_a_scan_that_cannot_go_on_have_names_of_their_own() {
        let long = error(Status::TooLarge, Reason::None, Effect::None, Cause::TooLong);
        let report = Report::of(&long, "k");
        assert_eq!((report.name.as_str(), report.exit, report.effect), ("TOO_LARGE", 8, Effect::None));
        let lost = error(Status::NotExecuted, Reason::None, Effect::None, Cause::ViewLost);
        let report = Report::of(&lost, "export");
        assert_eq!((report.name.as_str(), report.exit), ("VIEW_LOST", 5));
        assert!(report.what.starts_with("the node at 127.0.0.1:7400 has gone away"), "{}", report.what);
        assert!(report.hint.starts_with("start it again"), "{}", report.hint);
    }

    #[test]
    fn an_answer_that_cannot_be_written_is_told_with_its_effect() {
        let full = std::io::Error::other("full");
        let report = Report::unsaid("created k (revision 7)\n\nstages", &full);
        assert_eq!((report.exit, report.effect), (1, Effect::Applied));
        assert!(report.what.ends_with("written: full; the answer was: created k (revision 7)"), "{}", report.what);
        assert!(report.text().contains("\neffect: applied\n"), "{}", report.text());
    }

    #[test]
    fn a_hint_fits_what_happened() {
        let mut failed = error(Status::ConditionFailed, Reason::Overflow, Effect::None, Cause::Answered);
        for (reason, word) in [(Reason::Overflow, "add less"), (Reason::NotANumber, "sets it to a number")] {
            failed.reason = reason;
            let hint = Report::of(&failed, "n").hint;
            assert!(hint.contains(word) && !hint.contains("--timeout"), "{hint}");
        }
        let late = error(Status::NotExecuted, Reason::None, Effect::None, Cause::Deadline);
        assert!(Report::of(&late, "n").hint.contains("--timeout"));
    }

    #[test]
    fn a_measurement_that_failed_says_why_as_any_command_does() {
        let unreachable = error(Status::NotExecuted, Reason::None, Effect::None, Cause::Unreachable);
        let report =
            Report::not_measured("the load could not be started", &std::io::Error::other(unreachable), Effect::Unknown);
        assert_eq!((report.name.as_str(), report.exit), ("UNREACHABLE", 5));
        assert!(report.what.starts_with("the load could not be started: no node could be reached"), "{}", report.what);
        let report = Report::not_measured(
            "it could not be measured",
            &std::io::Error::other("no request was done"),
            Effect::Unknown,
        );
        assert_eq!((report.name.as_str(), report.exit, report.effect), ("NOT_MEASURED", 1, Effect::Unknown));
        let missing = std::io::Error::new(std::io::ErrorKind::NotFound, "perf is not installed");
        let report = Report::not_measured("there is no flamegraph", &missing, Effect::None);
        assert_eq!((report.name.as_str(), report.exit, report.effect), ("NOT_MEASURED", 1, Effect::None));
    }

    #[test]
    fn a_redirect_names_the_leader_in_both_forms() {
        let mut redirect = error(Status::Redirect, Reason::NotLeader, Effect::None, Cause::Answered);
        redirect.leader = Some("127.0.0.1:7410".to_owned());
        let report = Report::of(&redirect, "x");
        assert!(report.text().contains("127.0.0.1:7410"));
        let object: serde_json::Value = serde_json::from_str(&report.json()).expect("one object");
        assert_eq!(object["leader"], "127.0.0.1:7410");
        assert_eq!(object["exit"], 5);
        assert_eq!(object["effect"], "none");
        assert_eq!(object["ok"], false);
    }
}
