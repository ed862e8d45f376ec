//! What each backend can do of each primitive fault, for the table in `docs/backends.md` and for those who ask.

use super::Backend;

/// How well a backend does a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ability {
    /// As the model says.
    Exact,
    /// Nearly; how it differs.
    Approximated(&'static str),
    /// Not at all; scenarios with it are skipped there.
    Cannot(&'static str),
}

/// A primitive fault and what the three backends make of it.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// What is done.
    pub fault: &'static str,
    /// In the kernel.
    pub kernel: Ability,
    /// On turmoil.
    pub turmoil: Ability,
    /// On real sockets.
    pub tcp: Ability,
}

use Ability::{Approximated, Cannot, Exact};

/// Every primitive fault.
pub const TABLE: &[Row] = &[
    Row { fault: "process killed (SIGKILL)", kernel: Exact, turmoil: Exact, tcp: Exact },
    Row { fault: "process asked to end (SIGTERM)", kernel: Exact, turmoil: Exact, tcp: Exact },
    Row {
        fault: "host loses power",
        kernel: Exact,
        turmoil: Exact,
        tcp: Approximated(
            "other processes close their gates to it, it is killed, its files are cut to their last sync",
        ),
    },
    Row { fault: "restart with data, without data", kernel: Exact, turmoil: Exact, tcp: Exact },
    Row { fault: "process stopped (SIGSTOP)", kernel: Exact, turmoil: Exact, tcp: Exact },
    Row { fault: "stopped between decision and sends", kernel: Exact, turmoil: Exact, tcp: Exact },
    Row { fault: "virtual machine suspended", kernel: Exact, turmoil: Exact, tcp: Exact },
    Row {
        fault: "link cut, one way or both",
        kernel: Exact,
        turmoil: Approximated("no stream is ever given up (Linux: after 924 s)"),
        tcp: Approximated("no stream is ever given up (Linux: after 924 s)"),
    },
    Row {
        fault: "link slow: delay, jitter, bandwidth",
        kernel: Exact,
        turmoil: Approximated("rounded to the tick of 1 ms"),
        tcp: Approximated("on top of the real loopback"),
    },
    Row {
        fault: "loss on streams",
        kernel: Exact,
        turmoil: Approximated("a lost piece is late by one retransmission, rounded to the tick"),
        tcp: Approximated("a lost piece is late by one retransmission"),
    },
    Row {
        fault: "datagrams lost, doubled, overtaken",
        kernel: Exact,
        turmoil: Approximated("rounded to the tick of 1 ms; those in flight are lost if their sender dies"),
        tcp: Approximated("those that a slow link keeps are lost if their sender dies"),
    },
    Row { fault: "wall clock jumps", kernel: Exact, turmoil: Exact, tcp: Exact },
    Row {
        fault: "clocks drift",
        kernel: Exact,
        turmoil: Approximated("timers at whole milliseconds"),
        tcp: Approximated("timers at whole milliseconds"),
    },
    Row { fault: "sync slow or stuck", kernel: Exact, turmoil: Exact, tcp: Exact },
    Row {
        fault: "sync fails",
        kernel: Exact,
        turmoil: Exact,
        tcp: Approximated("what it should have stored is stored by the next sync that succeeds"),
    },
    Row { fault: "disk full", kernel: Exact, turmoil: Exact, tcp: Exact },
    Row {
        fault: "certificate expired, misnamed, rotated",
        kernel: Approximated("rules and a round trip; a refused dialler learns it with the answer"),
        turmoil: Cannot("streams are not encrypted there"),
        tcp: Exact,
    },
    Row { fault: "name resolves otherwise", kernel: Exact, turmoil: Exact, tcp: Exact },
];

impl Row {
    /// What a backend makes of it.
    pub fn on(&self, backend: Backend) -> Ability {
        match backend {
            Backend::Kernel => self.kernel,
            Backend::Turmoil => self.turmoil,
            Backend::Tcp => self.tcp,
        }
    }
}

/// The table as Markdown.
pub fn markdown() -> String {
    let cell = |ability: Ability| match ability {
        Exact => "exact".to_owned(),
        Approximated(how) => format!("approximated: {how}"),
        Cannot(why) => format!("cannot: {why}"),
    };
    let mut text = String::from("| fault | kernel | turmoil | tcp |\n|---|---|---|---|\n");
    for row in TABLE {
        let cells = [Backend::Kernel, Backend::Turmoil, Backend::Tcp].map(|backend| cell(row.on(backend)));
        text += &format!("| {} | {} |\n", row.fault, cells.join(" | "));
    }
    text
}
