//! When a fault strikes: a time, a range from which the seed draws, or an event.

use super::units::Span;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;

/// When.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// At this time.
    Time(Span),
    /// Drawn from this range by the seed, so that the fault meets every phase of the timers.
    Range(Span, Span),
    /// After an event.
    Event {
        /// What must be seen, as [`EVENTS`] names it.
        on: String,
        /// How long after it.
        plus: Span,
    },
}

/// The events that faults can wait for: the marks of a failover, and the healing of the fault before.
pub const EVENTS: [&str; 11] = [
    "suspected",
    "declared",
    "elected",
    "fenced",
    "promoting",
    "promoted",
    "writable",
    "routed",
    "settled",
    "aborted",
    "healed",
];

impl std::str::FromStr for At {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let Some((from, to)) = text.split_once("..") else { return Ok(At::Time(text.parse()?)) };
        let (from, to): (Span, Span) = (from.parse()?, to.parse()?);
        if from > to {
            return Err(format!("the range `{text}` ends before it begins"));
        }
        Ok(At::Range(from, to))
    }
}

impl<'de> Deserialize<'de> for At {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AtVisitor)
    }
}

struct AtVisitor;

impl<'de> Visitor<'de> for AtVisitor {
    type Value = At;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time (\"20s\"), a range (\"20s..21s\") or an event ({\"on\": \"promoted\", \"plus\": \"50ms\"})")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<At, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<At, A::Error> {
        let (mut on, mut plus) = (None, Span::default());
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "on" => on = Some(map.next_value::<String>()?),
                "plus" => plus = map.next_value()?,
                other => return Err(A::Error::unknown_field(other, &["on", "plus"])),
            }
        }
        let on = on.ok_or_else(|| A::Error::missing_field("on"))?;
        if !EVENTS.contains(&on.as_str()) {
            return Err(A::Error::unknown_variant(&on, &EVENTS));
        }
        Ok(At::Event { on, plus })
    }
}

impl Serialize for At {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            At::Time(at) => serializer.collect_str(at),
            At::Range(from, to) => serializer.serialize_str(&format!("{from}..{to}")),
            At::Event { on, plus } => {
                let mut map = serializer.serialize_map(Some(2))?;
                map.serialize_entry("on", on)?;
                map.serialize_entry("plus", plus)?;
                map.end()
            }
        }
    }
}

impl JsonSchema for At {
    fn schema_name() -> Cow<'static, str> {
        "At".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let span = generator.subschema_for::<Span>();
        json_schema!({
            "description": "A time (\"20s\"), a range the seed draws from (\"20s..21s\"), or an event.",
            "anyOf": [
                { "type": "string", "pattern": r"^[0-9.]+(us|µs|ms|s|m|h|d)(\.\.[0-9.]+(us|µs|ms|s|m|h|d))?$" },
                {
                    "type": "object",
                    "properties": { "on": { "enum": EVENTS }, "plus": span },
                    "required": ["on"],
                    "additionalProperties": false
                }
            ]
        })
    }
}
