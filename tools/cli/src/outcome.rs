//! outcome: what became of a write (C-24).

use std::process::ExitCode;

use client::{Client, Number};
use protocol::reply::{Answer, Detail, Effect, Fate};
use serde_json::{json, Value};

use crate::args::{Globals, Output};
use crate::report::Report;
use crate::{exit, output};

pub(crate) fn run(client: &mut Client, globals: &Globals, number: Number) -> Result<ExitCode, Report> {
    let name = format!("{}/{}", number.session, number.sequence);
    let fate = client.outcome(number).map_err(|error| Report::of(&error, &name))?;
    match globals.output {
        Output::Text => output::line(&format!("{name}: {}", words(&fate)))?,
        Output::Json => output::line(&object(&name, &fate).to_string())?,
    }
    Ok(ExitCode::from(code(&fate)))
}

/// Executed is an answer whatever it was; "never" is safe to retry; the rest stays open.
fn code(fate: &Fate) -> u8 {
    match fate {
        Fate::Executed(_) => exit::DONE,
        Fate::Never => exit::NOT_APPLIED,
        Fate::Forgotten | Fate::SessionExpired => exit::UNKNOWN,
    }
}

fn words(fate: &Fate) -> String {
    match fate {
        Fate::Executed(Answer { status, effect: Effect::Applied, revision, detail, .. }) => {
            let sum = if let Detail::Number(sum) = detail { format!(", the sum was {sum}") } else { String::new() };
            format!("applied at revision {revision} ({status}){sum}")
        }
        Fate::Executed(Answer { status, revision, .. }) => format!("refused at revision {revision} ({status})"),
        Fate::Never => "never executed, and never will be".to_owned(),
        Fate::Forgotten => "not known any more: the session keeps only its newest results".to_owned(),
        Fate::SessionExpired => {
            "not known any more: the session has expired; if it was not executed before, it never will be".to_owned()
        }
    }
}

fn object(name: &str, fate: &Fate) -> Value {
    let what = match fate {
        Fate::Executed(Answer { effect: Effect::Applied, .. }) => "applied",
        Fate::Executed(_) => "refused",
        Fate::Never => "never",
        Fate::Forgotten => "forgotten",
        Fate::SessionExpired => "session_expired",
    };
    let Fate::Executed(answer) = fate else {
        return json!({ "ok": true, "request": name, "outcome": what });
    };
    let sum = if let Detail::Number(sum) = answer.detail { json!(sum) } else { Value::Null };
    json!({
        "ok": true, "request": name, "outcome": what, "status": answer.status.code(),
        "revision": answer.revision.0, "sum": sum,
    })
}

#[cfg(test)]
mod tests {
    use protocol::reply::{Reason, Status};
    use protocol::Index;

    use super::*;

    #[test]
    fn every_fate_has_words_an_object_and_an_exit_code() {
        let answer = Answer {
            status: Status::Ok,
            reason: Reason::None,
            effect: Effect::Applied,
            revision: Index(7),
            detail: Detail::Number(-3),
        };
        let refused = Answer { status: Status::Exists, effect: Effect::None, detail: Detail::Nothing, ..answer };
        let table = [
            (Fate::Executed(answer), "the sum was -3", "applied", 0),
            (Fate::Executed(refused), "refused at revision 7 (409 exists)", "refused", 0),
            (Fate::Never, "never will be", "never", 5),
            (Fate::Forgotten, "newest results", "forgotten", 6),
            (Fate::SessionExpired, "expired", "session_expired", 6),
        ];
        for (fate, part, outcome, exit) in table {
            assert!(words(&fate).contains(part), "{}", words(&fate));
            assert_eq!((object("40/7", &fate)["outcome"].as_str(), code(&fate)), (Some(outcome), exit));
        }
        assert_eq!(object("40/7", &Fate::Executed(answer))["sum"], -3);
    }
}
