//! Decides whether a history of concurrent calls is linearizable.
//!
//! The search is that of Wing and Gong with the memory of Lowe: it puts calls in an order, one at a time, in which no
//! call comes after one that began when it had already returned, and in which the model gives each the answer that it
//! got; a set of calls that led to the same state before is not tried again.
//! <https://www.cs.cmu.edu/~wing/publications/WingGong93.pdf>

use std::collections::HashSet;
use std::hash::Hash;

/// The most calls of one history.
pub const MAX_CALLS: usize = 128;

/// What the calls act on, one after another.
pub trait Model: Clone + Eq + Hash {
    /// What is asked.
    type Op;
    /// What is answered.
    type Answer;

    /// The state after `op`, if `answer` is what it answers in this state.
    fn step(&self, op: &Self::Op, answer: &Self::Answer) -> Option<Self>;
}

/// One call, with moments of a clock that all callers share.
#[derive(Clone, Debug)]
pub struct Call<O, A> {
    /// What was asked.
    pub op: O,
    /// What was answered.
    pub answer: A,
    /// When it was asked.
    pub began: u64,
    /// When it was answered.
    pub ended: u64,
}

/// A call of which nobody knows the answer: it happened at some time after it was asked, or never.
#[derive(Clone, Debug)]
pub struct Open<O, A> {
    /// What was asked.
    pub op: O,
    /// What may have been answered.
    pub answers: Vec<A>,
    /// When it was asked.
    pub began: u64,
}

/// Whether there is an order of the calls that a caller of `start`, one call after another, could have seen.
///
/// # Panics
/// Past [`MAX_CALLS`].
pub fn is_linearizable<M: Model>(start: M, history: &[Call<M::Op, M::Answer>]) -> bool {
    is_linearizable_with(start, history, &[])
}

/// The same, with calls that may have happened.
///
/// # Panics
/// Past [`MAX_CALLS`], those among them.
pub fn is_linearizable_with<M: Model>(
    start: M,
    history: &[Call<M::Op, M::Answer>],
    maybe: &[Open<M::Op, M::Answer>],
) -> bool {
    let count = history.len() + maybe.len();
    assert!(count <= MAX_CALLS, "a history has at most {MAX_CALLS} calls");
    let all = if history.len() == MAX_CALLS { u128::MAX } else { (1 << history.len()) - 1 };
    let mut tried = HashSet::new();
    let mut open = vec![(0u128, start)];
    while let Some((done, state)) = open.pop() {
        if done & all == all {
            return true;
        }
        let left = || history.iter().enumerate().filter(|(at, _)| done & (1 << at) == 0);
        // Whatever comes next began before every other call that is left had ended.
        let first_end = left().map(|(_, call)| call.ended).min().unwrap_or(u64::MAX);
        for (at, call) in left().filter(|(_, call)| call.began < first_end) {
            if let Some(after) = state.step(&call.op, &call.answer) {
                let next = (done | 1 << at, after);
                if tried.insert(next.clone()) {
                    open.push(next);
                }
            }
        }
        let maybe = maybe.iter().enumerate().map(|(at, call)| (history.len() + at, call));
        for (at, call) in maybe.filter(|(at, call)| done & (1 << at) == 0 && call.began < first_end)
        {
            for after in call.answers.iter().filter_map(|answer| state.step(&call.op, answer)) {
                let next = (done | 1 << at, after);
                if tried.insert(next.clone()) {
                    open.push(next);
                }
            }
        }
    }
    false
}
