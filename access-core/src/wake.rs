//! What a task was woken for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use futures::task::AtomicWaker;

/// Wakes a task and remembers that it did.
///
/// A task that waits for several things is woken without being told for which, and has to look at
/// all of them. With a bell at each it looks at those alone that have rung. A bell has rung when it
/// is made, so that everything is looked at once.
///
/// ```
/// use std::task::{Context, Waker};
/// use access_core::wake::Bell;
///
/// let bell = Bell::new();
/// let mut task = Context::from_waker(Waker::noop());
/// assert!(bell.answer(&mut task));
/// // Whatever is polled with this rings the bell when it is ready …
/// let cx = bell.context();
/// assert!(!bell.answer(&mut task));
/// // … as it does here.
/// cx.waker().wake_by_ref();
/// assert!(bell.answer(&mut task) && !bell.answer(&mut task));
/// ```
#[derive(Debug)]
pub struct Bell {
    inner: Arc<Inner>,
    waker: Waker,
}

#[derive(Debug)]
struct Inner {
    rung: AtomicBool,
    task: AtomicWaker,
}

impl Bell {
    /// A bell that has rung.
    pub fn new() -> Self {
        let inner = Arc::new(Inner { rung: AtomicBool::new(true), task: AtomicWaker::new() });
        Self { waker: Waker::from(Arc::clone(&inner)), inner }
    }

    /// Whether it has rung since the last answer. From now on it wakes this task.
    pub fn answer(&self, task: &mut Context<'_>) -> bool {
        // In this order: a ring between the two is either seen here or wakes the task.
        self.inner.task.register(task.waker());
        self.inner.rung.load(Ordering::Relaxed) && self.inner.rung.swap(false, Ordering::Acquire)
    }

    /// With which to poll what the bell is for.
    pub fn context(&self) -> Context<'_> {
        Context::from_waker(&self.waker)
    }
}

impl Default for Bell {
    fn default() -> Self {
        Self::new()
    }
}

impl Wake for Inner {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.wake();
    }
}
