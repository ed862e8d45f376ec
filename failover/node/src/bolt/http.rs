//! The metrics server's HTTP/1.1: `GET` of a path, and a page of plain text. One request after the other on a connection.

use crate::driver::{BadInput, Codec, Side};
use bytes::{Buf, BytesMut};
use firedrill_protocols::memgraph::Memgraph;
use firedrill_protocols::memgraph::message::Message;

/// A request or an answer is not larger than this.
const SIZE_MAX: usize = 1 << 20;

/// Plain text to people and probes, and the text format of metrics to Prometheus.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Either side of a connection.
#[derive(Debug)]
pub(super) struct Http {
    side: Side,
}

impl Http {
    pub(super) fn new(side: Side) -> Self {
        Http { side }
    }
}

impl Codec<Memgraph> for Http {
    fn decode(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<Option<Message>, BadInput> {
        let Some(end) = find(input, b"\r\n\r\n") else {
            return if input.len() > SIZE_MAX { Err(BadInput("headers without an end")) } else { Ok(None) };
        };
        let head = std::str::from_utf8(&input[..end]).map_err(|_| BadInput("headers are not text"))?;
        let mut first = head.lines().next().unwrap_or_default().split_whitespace();
        match self.side {
            Side::Accepted => {
                let (method, path) = (first.next(), first.next().map(str::to_owned));
                if method != Some("GET") {
                    out.extend_from_slice(
                        b"HTTP/1.1 405 Method Not Allowed\r\nAllow: GET\r\nContent-Length: 0\r\n\r\n",
                    );
                    return Err(BadInput("only GET is served"));
                }
                input.advance(end + 4);
                path.map(Message::Get).map(Some).ok_or(BadInput("a request without a path"))
            }
            Side::Dialled => {
                let status = first.nth(1).and_then(|word| word.parse().ok()).ok_or(BadInput("no status"))?;
                let length = length(head)?;
                if input.len() < end + 4 + length {
                    return Ok(None);
                }
                input.advance(end + 4);
                let body = String::from_utf8_lossy(&input.split_to(length)).into_owned();
                Ok(Some(Message::Page { status, body }))
            }
        }
    }

    fn encode(&mut self, message: Message, out: &mut BytesMut) {
        let text = match message {
            Message::Get(path) => format!("GET {path} HTTP/1.1\r\nHost: node\r\n\r\n"),
            Message::Page { status, body } => {
                let reason = match status {
                    200 => "OK",
                    404 => "Not Found",
                    _ => "Service Unavailable",
                };
                format!(
                    "HTTP/1.1 {status} {reason}\r\nContent-Type: {TEXT}\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                )
            }
            _ => return,
        };
        out.extend_from_slice(text.as_bytes());
    }
}

fn find(input: &[u8], what: &[u8]) -> Option<usize> {
    input.windows(what.len()).position(|window| window == what)
}

/// The body's length by its header; none: no body.
fn length(head: &str) -> Result<usize, BadInput> {
    let header = head.lines().filter_map(|line| line.split_once(':'));
    let mut named = header.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let Some((_, value)) = named.next() else { return Ok(0) };
    match value.trim().parse() {
        Ok(length) if length <= SIZE_MAX => Ok(length),
        _ => Err(BadInput("a body of an impossible length")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_crosses_the_wire_in_pieces() {
        let (mut client, mut server) = (Http::new(Side::Dialled), Http::new(Side::Accepted));
        let (mut there, mut back, mut none) = (BytesMut::new(), BytesMut::new(), BytesMut::new());
        client.encode(Message::Get("/ready/main".into()), &mut there);
        let mut half = there.split_to(10);
        assert_eq!(server.decode(&mut half, &mut none).unwrap(), None);
        half.extend_from_slice(&there);
        assert_eq!(server.decode(&mut half, &mut none).unwrap(), Some(Message::Get("/ready/main".into())));
        let page = Message::Page { status: 503, body: "replica\n".into() };
        server.encode(page.clone(), &mut back);
        let rest = back.split_off(back.len() - 3);
        assert_eq!(client.decode(&mut back, &mut none).unwrap(), None);
        back.extend_from_slice(&rest);
        assert_eq!(client.decode(&mut back, &mut none).unwrap(), Some(page));
    }

    #[test]
    fn what_is_not_a_get_is_refused() {
        let mut server = Http::new(Side::Accepted);
        let mut input = BytesMut::from(&b"POST / HTTP/1.1\r\n\r\n"[..]);
        let mut out = BytesMut::new();
        assert!(server.decode(&mut input, &mut out).is_err());
        assert!(out.starts_with(b"HTTP/1.1 405 "), "{out:?}");
    }
}
