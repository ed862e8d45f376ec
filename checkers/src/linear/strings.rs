//! Strings whose pieces are, but for a few, all different: linear time, by way of [`super::zones`].
//!
//! What a get shows tells its own past: `p a b` was put as `p`, then `a` was appended, then `b`. With pieces that differ,
//! every piece stands for the string that ends with it, so a put is the write of a unique value, an append that somebody
//! saw is a compare-and-set from the piece before it, and a get is a read of its last piece. An append that nobody saw
//! stands where nobody looked, right before a put or at the end; so it is a write of a value that nobody read.
//!
//! ```text
//! put p |--|  append a  |----|                 write p |--|  cas p -> a  |----|
//! get          |---| "pa"              is      read         |---| a
//! ```
//!
//! Pieces must tell where they end: none may be the beginning of another. Where two operations wrote the same piece, it is
//! not known which of them a get shows. The first that fits is tried: if that leaves an order there is one. Then the
//! places where such pieces stand are taken as written by nobody knows whom, at any time: if even that leaves no order,
//! there is none. What is still open goes to the search.

use super::columns::{Interner, KeyMeta, Kind, Lane, NIL, OPEN, Token};
use super::explain::Core;
use super::report::{Class, Finding};
use super::zones::{Decision, Scratch, check as check_zones};

/// Decides a key whose operations are puts, appends and gets.
pub(super) fn check(lane: &Lane<'_>, values: &Interner, scratch: &mut Scratch) -> Decision {
    let Some(mut reader) = Reader::new(lane, values) else { return Decision::Repeated };
    let last = match reader.gets() {
        Ok(Some(last)) => last,
        Ok(None) => return Decision::Repeated,
        Err(finding) => return Decision::Violated(finding),
    };
    let writers = match reader.writers() {
        Ok(Some(writers)) => writers,
        Ok(None) => return Decision::Repeated,
        Err(finding) => return Decision::Violated(finding),
    };
    if let Some(finding) = reader.forked().or_else(|| reader.reordered(&writers)) {
        return Decision::Violated(finding);
    }
    let tried = reader.as_register(&last, &writers, |_| true).check(scratch);
    let unclear = |piece: usize| reader.pieces[piece].writers.len() > 1;
    if matches!(tried, Decision::Holds) || !(0..reader.pieces.len()).any(unclear) {
        return tried;
    }
    match reader.as_register(&last, &writers, |piece| !unclear(piece)).check(scratch) {
        Decision::Violated(mut finding) if !reader.starts_unclear => {
            finding.core.retain(|part| part.0 < lane.len());
            Decision::Violated(finding)
        }
        _ => Decision::Repeated,
    }
}

/// Something that was put or appended, and by which operations.
struct Piece<'a> {
    text: &'a [u8],
    writers: Vec<u32>,
    /// In how many places gets have shown it.
    places: usize,
}

/// Where a piece stands. Places are numbered from 1, because 0 is the empty string.
struct Place {
    piece: usize,
    /// The place before; [`NIL`] if it is the first.
    before: Token,
    /// The get that showed it first.
    get: usize,
}

/// What gets have shown of one put, or of what was appended to nothing.
struct Line<'a> {
    /// The longest string, and the get that showed it.
    longest: &'a [u8],
    get: usize,
    /// Where each place ends.
    ends: Vec<(usize, Token)>,
}

struct Reader<'a> {
    lane: &'a Lane<'a>,
    values: &'a Interner,
    /// Sorted by text.
    pieces: Vec<Piece<'a>>,
    places: Vec<Place>,
    /// By their first piece.
    lines: Vec<Option<Line<'a>>>,
    /// Whether a line begins with a piece that may begin several strings.
    starts_unclear: bool,
    /// The first completion of a put or append.
    written_at: u32,
}

impl<'a> Reader<'a> {
    /// `None` if pieces do not tell where they end.
    fn new(lane: &'a Lane<'a>, values: &'a Interner) -> Option<Self> {
        let writes = |i: &usize| matches!(lane.kind[*i], Kind::Write | Kind::Append | Kind::Aborted);
        let mut written: Vec<(&[u8], u32)> =
            (0..lane.len()).filter(writes).map(|i| (values.bytes_of(lane.a[i]), i as u32)).collect();
        written.sort_unstable();
        let mut pieces: Vec<Piece<'_>> = Vec::new();
        for (text, writer) in written {
            match pieces.last_mut() {
                Some(piece) if piece.text == text => piece.writers.push(writer),
                Some(piece) if text.starts_with(piece.text) => return None,
                _ => pieces.push(Piece { text, writers: vec![writer], places: 0 }),
            }
        }
        if pieces.first().is_some_and(|first| first.text.is_empty()) {
            return None;
        }
        let lines = pieces.iter().map(|_| None).collect();
        let completed = |i: usize| matches!(lane.kind[i], Kind::Write | Kind::Append).then_some(lane.ret[i]);
        let written_at = (0..lane.len()).filter_map(completed).min().unwrap_or(OPEN);
        Some(Reader { lane, values, pieces, places: Vec::new(), lines, starts_unclear: false, written_at })
    }

    /// The place of the last piece of what each get shows; `None` if a value is no string, or lines run into each other.
    ///
    /// # Errors
    /// A get shows what these operations cannot have put together.
    fn gets(&mut self) -> Result<Option<Vec<Token>>, Finding> {
        let mut last = vec![NIL; self.lane.len()];
        for i in (0..self.lane.len()).filter(|&i| self.lane.kind[i] == Kind::Read) {
            let text = self.values.bytes_of(self.lane.a[i]);
            if text.is_empty() && self.lane.a[i] != NIL {
                return Ok(None);
            }
            if !text.is_empty() {
                match self.get(i, text) {
                    Err(_) if self.starts_unclear => return Ok(None),
                    place => last[i] = place?,
                }
            }
        }
        Ok(Some(last))
    }

    /// The place of the last piece of one string, which is not empty.
    fn get(&mut self, i: usize, text: &'a [u8]) -> Result<Token, Finding> {
        let first = self.piece_at(i, text, 0)?;
        self.starts_unclear |= self.starts(first) > 1;
        let mut line = self.lines[first].take().unwrap_or(Line { longest: &[], get: i, ends: Vec::new() });
        let common = line.longest.len().min(text.len());
        if line.longest[..common] != text[..common] {
            return Err(self.diverged(line.get, i));
        }
        while line.longest.len() < text.len() {
            let from = line.longest.len();
            let piece = self.piece_at(i, text, from)?;
            let before = line.ends.last().map_or(NIL, |end| end.1);
            self.places.push(Place { piece, before, get: i });
            self.pieces[piece].places += 1;
            let to = from + self.pieces[piece].text.len();
            line.ends.push((to, self.places.len() as Token));
            line.longest = &text[..to];
            line.get = i;
        }
        let end = line.ends.binary_search_by_key(&text.len(), |end| end.0);
        let last = end.map(|n| line.ends[n].1);
        self.lines[first] = Some(line);
        last.map_err(|_| self.phantom(i))
    }

    /// How many strings may begin with this piece: one for each put, and one that was appended to nothing, if one of
    /// its appends began before anything else had surely been written.
    fn starts(&self, piece: usize) -> usize {
        let writers = || self.pieces[piece].writers.iter().map(|&w| w as usize);
        let puts = writers().filter(|&w| self.lane.kind[w] == Kind::Write).count();
        let first = |w: usize| self.lane.kind[w] == Kind::Append && self.lane.inv[w] <= self.written_at;
        puts + usize::from(writers().any(first))
    }

    /// The piece that begins here. It is the greatest that is not behind the rest of the string: any between the two
    /// would begin with it.
    fn piece_at(&self, i: usize, text: &[u8], from: usize) -> Result<usize, Finding> {
        let rest = &text[from..];
        let behind = self.pieces.partition_point(|piece| piece.text <= rest);
        let found = behind.checked_sub(1).filter(|&n| rest.starts_with(self.pieces[n].text));
        found.ok_or_else(|| self.phantom(i))
    }

    /// For each place the first operation that fits and is not taken; `None` if only a search can tell.
    ///
    /// # Errors
    /// No operations can have written what is there.
    fn writers(&self) -> Result<Option<Vec<u32>>, Finding> {
        let mut taken = vec![false; self.lane.len()];
        let mut writers = Vec::with_capacity(self.places.len());
        for place in &self.places {
            let piece = &self.pieces[place.piece];
            let free = |kind: Kind| {
                let fits = |w: &&u32| self.lane.kind[**w as usize] == kind && !taken[**w as usize];
                piece.writers.iter().find(fits).copied()
            };
            let put = free(Kind::Write).filter(|_| place.before == NIL);
            match put.or_else(|| free(Kind::Append)) {
                Some(writer) => {
                    taken[writer as usize] = true;
                    writers.push(writer);
                }
                None if piece.writers.len() == 1 => return Err(self.impossible(place, piece)),
                None => return Ok(None),
            }
        }
        Ok(Some(writers))
    }

    /// Why the only operation that writes this piece cannot have written it here.
    fn impossible(&self, place: &Place, piece: &Piece<'_>) -> Finding {
        let writer = piece.writers[0] as usize;
        let mut core = Core::default();
        if self.lane.kind[writer] == Kind::Aborted {
            core.add(Some(writer), "would have written the piece, but certainly failed");
            core.add(Some(place.get), "shows it");
            return core.finding(Class::AbortedRead, "a piece was seen whose only write certainly failed");
        }
        if self.lane.kind[writer] == Kind::Write && piece.places == 1 {
            core.add(Some(writer), "puts the piece in place of all that was there");
            core.add(Some(place.get), "shows it behind others");
            return core.finding(Class::Phantom, "a string was read that no operations put together");
        }
        let here = |other: &&Place| std::ptr::eq(&self.pieces[other.piece], piece);
        core.add(Some(writer), "adds the piece, once");
        for place in self.places.iter().filter(here).take(2) {
            core.add(Some(place.get), "shows it in one of two places");
        }
        core.finding(Class::DuplicateAppend, "a piece stands in two places although it was added once")
    }

    fn phantom(&self, i: usize) -> Finding {
        let mut core = Core::default();
        core.add(Some(i), "shows something that nobody wrote");
        core.finding(Class::Phantom, "a string was read that no operations put together")
    }

    fn diverged(&self, one: usize, other: usize) -> Finding {
        let mut core = Core::default();
        core.add(Some(one), "shows one string");
        core.add(Some(other), "shows another, and neither continues the other");
        core.finding(Class::DivergedLists, "two gets show strings of which neither continues the other")
    }

    /// Two strings that both were appended to nothing.
    fn forked(&self) -> Option<Finding> {
        let only_appended = |line: &&Line<'_>| {
            let first = &self.pieces[self.places[line.ends[0].1 as usize - 1].piece];
            first.writers.iter().all(|&w| self.lane.kind[w as usize] == Kind::Append)
        };
        let mut lines = self.lines.iter().flatten().filter(only_appended);
        Some(self.diverged(lines.next()?.get, lines.next()?.get))
    }

    /// An append that completed before the one whose piece stands before its own was invoked.
    fn reordered(&self, writers: &[u32]) -> Option<Finding> {
        let sure = |n: usize| self.pieces[self.places[n].piece].writers.len() == 1;
        let (early, late, get) = (0..self.places.len())
            .filter_map(|n| Some((n, self.places[n].before.checked_sub(1)? as usize)))
            .filter(|&(n, before)| sure(n) && sure(before))
            .map(|(n, before)| (writers[n] as usize, writers[before] as usize, self.places[n].get))
            .find(|&(early, late, _)| self.lane.ret[early] < self.lane.inv[late])?;
        let mut core = Core::default();
        core.add(Some(early), "completed first");
        core.add(Some(late), "began after that");
        core.add(Some(get), "shows what was written later before what was written earlier");
        Some(core.finding(Class::ReorderedAppend, "a later piece stands before an earlier one"))
    }

    /// The same operations on a register. What is not `sure` to be written by its writer is written by an operation of
    /// its own, at any time.
    fn as_register(&self, last: &[Token], writers: &[u32], sure: impl Fn(usize) -> bool) -> Register {
        let mut place_of = vec![NIL; self.lane.len()];
        let mut register = Register {
            events: self.lane.events,
            inv: self.lane.inv.to_vec(),
            ret: self.lane.ret.to_vec(),
            kind: self.lane.kind.to_vec(),
            a: last.to_vec(),
            b: vec![NIL; self.lane.len()],
        };
        for ((at, place), writer) in (1..).zip(&self.places).zip(writers) {
            match sure(place.piece) {
                true => place_of[*writer as usize] = at,
                false => register.push(place.before, at),
            }
        }
        let mut fresh = self.places.len() as Token;
        for (number, piece) in self.pieces.iter().enumerate() {
            for &writer in &piece.writers {
                let i = writer as usize;
                fresh += 1;
                match (register.kind[i], place_of[i]) {
                    _ if !sure(number) => (register.kind[i], register.a[i]) = (Kind::Aborted, fresh),
                    (Kind::Append | Kind::Write, NIL) => {
                        (register.kind[i], register.a[i]) = (Kind::Write, fresh)
                    }
                    (Kind::Append, at) => {
                        register.kind[i] = Kind::Cas;
                        (register.a[i], register.b[i]) = (self.places[at as usize - 1].before, at);
                    }
                    (Kind::Write, at) => register.a[i] = at,
                    _ => register.a[i] = fresh,
                }
            }
        }
        register
    }
}

/// A lane of its own.
struct Register {
    events: u32,
    inv: Vec<u32>,
    ret: Vec<u32>,
    kind: Vec<Kind>,
    a: Vec<Token>,
    b: Vec<Token>,
}

impl Register {
    /// An operation that nobody knows, which wrote this place.
    fn push(&mut self, before: Token, at: Token) {
        self.inv.push(0);
        self.ret.push(OPEN);
        let (kind, a, b) = if before == NIL { (Kind::Write, at, NIL) } else { (Kind::Cas, before, at) };
        self.kind.push(kind);
        self.a.push(a);
        self.b.push(b);
    }

    fn check(&self, scratch: &mut Scratch) -> Decision {
        let meta = KeyMeta::default();
        let Register { events, inv, ret, kind, a, b } = self;
        match check_zones(&Lane { meta: &meta, events: *events, inv, ret, kind, a, b, version: &[] }, scratch)
        {
            Decision::Violated(mut finding) => {
                finding.summary = finding.summary.replace("compare-and-sets lead", "appends lead");
                Decision::Violated(finding)
            }
            decision => decision,
        }
    }
}
