//! The little of HTTP/1.1 that a scraper needs: a request's head as bytes, and the answer to it. It touches no socket.

use std::net::IpAddr;

use super::exposition::Format;

/// A request with a longer head is refused.
pub(super) const MAX_HEAD_BYTES: usize = 8 << 10;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Metrics(Format),
    Health,
    Failure(Status),
}

/// Why a request gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    BadRequest,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    Timeout,
    HeadTooLarge,
    Busy,
}

impl Status {
    fn line(self) -> &'static str {
        match self {
            Self::BadRequest => "400 Bad Request",
            Self::Forbidden => "403 Forbidden",
            Self::NotFound => "404 Not Found",
            Self::MethodNotAllowed => "405 Method Not Allowed",
            Self::Timeout => "408 Request Timeout",
            Self::HeadTooLarge => "431 Request Header Fields Too Large",
            Self::Busy => "503 Service Unavailable",
        }
    }
}

/// A request that was understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) wanted: Wanted,
    /// Whether only the head of the answer is sent.
    pub(super) is_head: bool,
}

/// Whether the head of a request is complete.
pub(super) fn is_complete(head: &[u8]) -> bool {
    head.windows(4).any(|end| end == b"\r\n\r\n") || head.windows(2).any(|end| end == b"\n\n")
}

/// Reads the head of a request. `any_host` takes it whatever name it calls this machine by; otherwise only by numbers and `localhost`, since a page in
/// a browser may have a name of its own lead here.
pub(super) fn parse(head: &[u8], any_host: bool) -> Request {
    let failure = |status| Request { wanted: Wanted::Failure(status), is_head: false };
    let Ok(head) = std::str::from_utf8(head) else { return failure(Status::BadRequest) };
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next()) else {
        return failure(Status::BadRequest);
    };
    if !matches!(version, "HTTP/1.0" | "HTTP/1.1") || !target.starts_with('/') {
        return failure(Status::BadRequest);
    }
    let mut host = None;
    let mut accept = String::new();
    for line in lines.take_while(|line| !line.is_empty()) {
        let Some((name, value)) = line.split_once(':') else { return failure(Status::BadRequest) };
        if name.eq_ignore_ascii_case("host") {
            host = Some(value.trim());
        } else if name.eq_ignore_ascii_case("accept") {
            accept.push_str(value);
            accept.push(',');
        }
    }
    let is_head = method == "HEAD";
    let wanted = if !any_host && host.is_some_and(|host| !is_local(host)) {
        Wanted::Failure(Status::Forbidden)
    } else if method != "GET" && !is_head {
        Wanted::Failure(Status::MethodNotAllowed)
    } else {
        match target.split('?').next().unwrap_or_default() {
            "/metrics" => Wanted::Metrics(preferred(&accept)),
            "/healthz" => Wanted::Health,
            _ => Wanted::Failure(Status::NotFound),
        }
    };
    Request { wanted, is_head }
}

/// Whether a `Host` names this machine by numbers or as `localhost`.
fn is_local(host: &str) -> bool {
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit())).map_or(host, |(name, _)| name);
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

/// OpenMetrics where the reader likes it at least as much as text.
fn preferred(accept: &str) -> Format {
    let (mut open_metrics, mut text) = (0.0_f64, 0.0_f64);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let parameters: Vec<&str> = parts.collect();
        let weight =
            parameters.iter().find_map(|part| part.strip_prefix("q=")?.parse::<f64>().ok()).filter(|q| q.is_finite()).unwrap_or(1.0);
        let version = parameters.iter().find_map(|part| part.strip_prefix("version="));
        match kind {
            "application/openmetrics-text" if version.is_none_or(|version| version == "1.0.0") => open_metrics = open_metrics.max(weight),
            "text/plain" | "text/*" => text = text.max(weight),
            _ => {}
        }
    }
    if open_metrics > 0.0 && open_metrics >= text { Format::OpenMetrics } else { Format::Text }
}

/// The bytes of an answer, `body` being that of a request that succeeded.
pub(super) fn answer(request: Request, body: &str) -> Vec<u8> {
    let (status, kind, body) = match request.wanted {
        Wanted::Metrics(format) => ("200 OK", format.content_type(), body.to_owned()),
        Wanted::Health => ("200 OK", "text/plain; charset=utf-8", "ok\n".to_owned()),
        Wanted::Failure(status) => (status.line(), "text/plain; charset=utf-8", format!("{}\n", status.line())),
    };
    let allow = if request.wanted == Wanted::Failure(Status::MethodNotAllowed) { "Allow: GET, HEAD\r\n" } else { "" };
    let length = body.len();
    let mut bytes = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{allow}Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    );
    if !request.is_head {
        bytes.push_str(&body);
    }
    bytes.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wanted(head: &str) -> Wanted {
        parse(head.as_bytes(), false).wanted
    }

    #[test]
    fn requests_are_understood_or_refused() {
        let get = |target: &str| wanted(&format!("GET {target} HTTP/1.1\r\nHost: 127.0.0.1:9464\r\n\r\n"));
        assert_eq!(get("/metrics"), Wanted::Metrics(Format::Text));
        assert_eq!(get("/metrics?x=1"), Wanted::Metrics(Format::Text));
        assert_eq!(get("/healthz"), Wanted::Health);
        assert_eq!(get("/"), Wanted::Failure(Status::NotFound));
        assert_eq!(get("metrics"), Wanted::Failure(Status::BadRequest));
        assert_eq!(wanted("POST /metrics HTTP/1.1\r\n\r\n"), Wanted::Failure(Status::MethodNotAllowed));
        assert!(parse(b"HEAD /metrics HTTP/1.0\r\n\r\n", false).is_head);
        for bad in ["", "GET", "GET /metrics", "GET /metrics HTTP/2", "GET  /metrics HTTP/1.1", "GET /metrics HTTP/1.1\r\nno colon\r\n\r\n"]
        {
            assert_eq!(wanted(bad), Wanted::Failure(Status::BadRequest), "{bad:?}");
        }
        assert_eq!(parse(b"GET /\xff HTTP/1.1\r\n\r\n", false).wanted, Wanted::Failure(Status::BadRequest));
    }

    #[test]
    fn a_name_of_a_page_is_refused() {
        let by = |host: &str, any| parse(format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes(), any).wanted;
        for host in ["localhost", "LOCALHOST:9464", "127.0.0.1:9464", "[::1]:9464", "10.0.0.7"] {
            assert_eq!(by(host, false), Wanted::Health, "{host}");
        }
        for host in ["attacker.example", "127.0.0.1.attacker.example:80", "", "localhost.evil"] {
            assert_eq!(by(host, false), Wanted::Failure(Status::Forbidden), "{host}");
            assert_eq!(by(host, true), Wanted::Health);
        }
    }

    #[test]
    fn the_format_is_the_readers_choice() {
        let by = |accept: &str| wanted(&format!("GET /metrics HTTP/1.1\r\nAccept: {accept}\r\n\r\n"));
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        assert_eq!(by(prometheus), Wanted::Metrics(Format::OpenMetrics));
        for text in
            ["*/*", "text/plain", "text/plain;q=0.9, application/openmetrics-text;q=0.1", "application/openmetrics-text;q=0", "a;q=NaN"]
        {
            assert_eq!(by(text), Wanted::Metrics(Format::Text), "{text}");
        }
        assert_eq!(by("application/openmetrics-text; version=0.0.1"), Wanted::Metrics(Format::Text));
    }

    #[test]
    fn an_answer_tells_its_length() {
        let get = Request { wanted: Wanted::Metrics(Format::Text), is_head: false };
        let text = String::from_utf8(answer(get, "a 1\n")).unwrap();
        assert!(
            text.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: 4\r\n"),
            "{text}"
        );
        assert!(text.ends_with("\r\n\r\na 1\n"));
        let head = String::from_utf8(answer(Request { is_head: true, ..get }, "a 1\n")).unwrap();
        assert!(head.contains("Content-Length: 4\r\n") && head.ends_with("\r\n\r\n"));
        let refused = Request { wanted: Wanted::Failure(Status::MethodNotAllowed), is_head: false };
        assert!(String::from_utf8(answer(refused, "")).unwrap().contains("\r\nAllow: GET, HEAD\r\n"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), any in any::<bool>()) {
            let request = parse(&bytes, any);
            prop_assert!(answer(request, "x").starts_with(b"HTTP/1.1 "));
            let _ = is_complete(&bytes);
        }

        #[test]
        fn any_head_is_read_without_a_panic(head in "GET /[a-z/?]{0,9} HTTP/1.[019]\r\n(Accept|Host|x): [ -~]{0,60}\r\n\r\n") {
            prop_assert!(answer(parse(head.as_bytes(), false), "x").starts_with(b"HTTP/1.1 "));
        }
    }
}
