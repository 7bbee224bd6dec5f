//! Turns panics of libraries into errors.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// True while [`catch`] catches panics of this thread and reports them.
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

static HOOK: Once = Once::new();

/// The result of `work`, or the message of its panic. A panic on this thread is not printed.
pub fn catch<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    HOOK.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !CAUGHT.get() {
                print(panic);
            }
        }));
    });
    let before = CAUGHT.replace(true);
    let done = panic::catch_unwind(AssertUnwindSafe(work));
    CAUGHT.set(before);
    done.map_err(message)
}

fn message(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    let first_line = text.and_then(|text| text.lines().next());
    first_line.unwrap_or("no reason given").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_its_message() {
        assert_eq!(catch(|| 5), Ok(5));
        assert_eq!(
            catch(|| -> u32 { panic!("no {}\nbacktrace", "tokens") }),
            Err("no tokens".into())
        );
        assert_eq!(catch(|| -> u32 { panic!("no tokens") }), Err("no tokens".into()));
        assert!(!CAUGHT.get());
    }
}
