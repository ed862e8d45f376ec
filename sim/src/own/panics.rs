//! tokio swallows the panic of a spawned task. A drill must not: it counts the panics of its thread.

use std::cell::Cell;
use std::sync::Once;

thread_local! {
    static SEEN: Cell<u64> = const { Cell::new(0) };
}

/// Panics on this thread since the first call.
pub(super) fn seen() -> u64 {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            SEEN.set(SEEN.get() + 1);
            before(panic);
        }));
    });
    SEEN.get()
}
