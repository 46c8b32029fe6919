//! HTTP as the admin endpoints speak it: a request's head, and an answer. Pure.

use crate::limits;

/// What the bytes of a connection begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// No whole head yet.
    Incomplete,
    /// A request that can be answered.
    Request(Request),
    /// Something else: answer with this status, then close.
    Refused(Status),
}

/// A request for a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) page: Option<Page>,
    /// HEAD: the answer has no body.
    pub(super) is_head: bool,
    /// The connection goes on after the answer.
    pub(super) keep_alive: bool,
    /// Bytes of its head.
    pub(super) len: usize,
}

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Metrics,
    Live,
    Ready,
    Status,
}

/// What an answer says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    BadRequest,
    NotFound,
    MethodNotAllowed,
    ContentTooLarge,
    HeadTooLarge,
    Unavailable,
    VersionNotSupported,
}

/// An answer's body, with what its head must say of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: Status,
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

const TEXT: &str = "text/plain; charset=utf-8";

/// Looks for a request at the beginning of `bytes`.
pub(super) fn parse(bytes: &[u8]) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; limits::ADMIN_HEADERS_MAX];
    let mut head = httparse::Request::new(&mut headers);
    match head.parse(bytes) {
        Ok(httparse::Status::Complete(len)) => understand(&head, len),
        Ok(httparse::Status::Partial) if bytes.len() < limits::ADMIN_HEAD_BYTES_MAX => Parsed::Incomplete,
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => Parsed::Refused(Status::HeadTooLarge),
        Err(httparse::Error::Version) => Parsed::Refused(Status::VersionNotSupported),
        Err(_) => Parsed::Refused(Status::BadRequest),
    }
}

fn understand(head: &httparse::Request<'_, '_>, len: usize) -> Parsed {
    let header = |name: &str| head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    let is_1_1 = head.version == Some(1);
    let is_head = match head.method {
        Some("GET") => false,
        Some("HEAD") => true,
        _ => return Parsed::Refused(Status::MethodNotAllowed),
    };
    if is_1_1 && header("host").is_none() {
        return Parsed::Refused(Status::BadRequest);
    }
    let has_body = header("content-length").is_some_and(|length| length.value != b"0");
    if has_body || header("transfer-encoding").is_some() {
        return Parsed::Refused(Status::ContentTooLarge);
    }
    let says = |word: &str| {
        let value = header("connection").map_or(&b""[..], |connection| connection.value);
        value.split(|byte| *byte == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
    };
    let keep_alive = if is_1_1 { !says("close") } else { says("keep-alive") };
    Parsed::Request(Request { page: page(head.path.unwrap_or_default()), is_head, keep_alive, len })
}

fn page(target: &str) -> Option<Page> {
    match target.split('?').next() {
        Some("/metrics") => Some(Page::Metrics),
        Some("/livez") => Some(Page::Live),
        Some("/readyz") => Some(Page::Ready),
        Some("/status") => Some(Page::Status),
        _ => None,
    }
}

impl Status {
    /// Number and words of the first line.
    fn line(self) -> &'static str {
        match self {
            Status::Ok => "200 OK",
            Status::BadRequest => "400 Bad Request",
            Status::NotFound => "404 Not Found",
            Status::MethodNotAllowed => "405 Method Not Allowed",
            Status::ContentTooLarge => "413 Content Too Large",
            Status::HeadTooLarge => "431 Request Header Fields Too Large",
            Status::Unavailable => "503 Service Unavailable",
            Status::VersionNotSupported => "505 HTTP Version Not Supported",
        }
    }

    /// What a person should know about a refusal.
    fn words(self) -> &'static str {
        match self {
            Status::NotFound => "there are /metrics, /livez, /readyz and /status",
            Status::MethodNotAllowed => "GET and HEAD are answered here",
            Status::ContentTooLarge => "a request here has no body",
            Status::HeadTooLarge => "the request's head is too large",
            Status::VersionNotSupported => "HTTP/1.0 and HTTP/1.1 are spoken here",
            Status::Ok | Status::BadRequest | Status::Unavailable => "this is not a request that can be read",
        }
    }
}

impl Answer {
    /// Plain words.
    pub(super) fn text(status: Status, body: String) -> Answer {
        Answer { status, content_type: TEXT, body }
    }

    /// What was asked for cannot be answered.
    pub(super) fn refusal(status: Status) -> Answer {
        Answer::text(status, format!("{}\n", status.words()))
    }

    /// The whole answer's bytes, behind what is in `out` already.
    pub(super) fn write(&self, is_head: bool, keep_alive: bool, out: &mut Vec<u8>) {
        let Answer { status, content_type, body } = self;
        let connection = if keep_alive { "keep-alive" } else { "close" };
        let allow = if *status == Status::MethodNotAllowed { "Allow: GET, HEAD\r\n" } else { "" };
        let head = format!(
            "HTTP/1.1 {}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n{allow}\
             Connection: {connection}\r\n\r\n",
            status.line(),
            body.len()
        );
        out.extend_from_slice(head.as_bytes());
        if !is_head {
            out.extend_from_slice(body.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Status {
        match parse(text.as_bytes()) {
            Parsed::Refused(status) => status,
            other => panic!("{text:?}: {other:?}"),
        }
    }

    #[test]
    fn a_request_is_the_same_however_much_of_it_is_there() {
        let text = "GET /metrics?x=1 HTTP/1.1\r\nHost: h\r\nAccept: */*\r\n\r\n";
        for end in 0..text.len() {
            assert_eq!(parse(&text.as_bytes()[..end]), Parsed::Incomplete, "{end}");
        }
        let request = Request { page: Some(Page::Metrics), is_head: false, keep_alive: true, len: text.len() };
        assert_eq!(parse(text.as_bytes()), Parsed::Request(request));
        assert_eq!(
            parse(format!("{text}GET /").as_bytes()),
            Parsed::Request(request),
            "what follows is the next one's"
        );
    }

    #[test]
    fn versions_say_whether_the_connection_goes_on() {
        let keeps = |text: &str| match parse(text.as_bytes()) {
            Parsed::Request(request) => request.keep_alive,
            other => panic!("{text:?}: {other:?}"),
        };
        assert!(!keeps("GET /livez HTTP/1.0\r\n\r\n"));
        assert!(keeps("GET /livez HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
        assert!(keeps("GET /livez HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert!(!keeps("GET /livez HTTP/1.1\r\nHost: h\r\nConnection: x, close\r\n\r\n"));
    }

    #[test]
    fn what_cannot_be_answered_has_its_own_status() {
        assert_eq!(refused("POST /metrics HTTP/1.1\r\nHost: h\r\n\r\n"), Status::MethodNotAllowed);
        assert_eq!(refused("GET /metrics HTTP/1.1\r\n\r\n"), Status::BadRequest);
        assert_eq!(refused("GET /metrics HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n"), Status::ContentTooLarge);
        assert_eq!(
            refused("GET /metrics HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"),
            Status::ContentTooLarge
        );
        assert_eq!(refused("GET /metrics HTTP/7.3\r\n"), Status::VersionNotSupported);
        assert_eq!(refused("\x16\x03\x01"), Status::BadRequest);
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(limits::ADMIN_HEADERS_MAX + 1));
        assert_eq!(refused(&many), Status::HeadTooLarge);
        let long = format!("GET /{}", "x".repeat(limits::ADMIN_HEAD_BYTES_MAX));
        assert_eq!(refused(&long), Status::HeadTooLarge);
    }

    #[test]
    fn an_answer_says_how_long_it_is_also_to_head() {
        let mut out = Vec::new();
        Answer::text(Status::Ok, "ok\n".to_owned()).write(true, false, &mut out);
        let text = String::from_utf8(out).expect("text");
        assert!(text.contains("Content-Length: 3\r\n") && text.ends_with("Connection: close\r\n\r\n"), "{text}");
        let mut out = Vec::new();
        Answer::refusal(Status::MethodNotAllowed).write(false, false, &mut out);
        assert!(String::from_utf8(out).expect("text").contains("\r\nAllow: GET, HEAD\r\n"));
    }
}
