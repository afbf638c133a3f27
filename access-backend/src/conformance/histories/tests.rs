//! That the judge tells right histories from wrong ones.

use super::super::linear::is_linearizable;
use super::*;
use crate::{ManualClock, Memory, MemoryOptions};

fn call(began: u64, ended: u64, op: Want, answer: Answer) -> Call<Want, Answer> {
    Call { op, answer, began, ended }
}

fn revision(bits: u128) -> Revision {
    Revision::from_bits(bits)
}

fn wrote(bits: u128) -> Answer {
    Answer::Wrote(revision(bits))
}

fn read(value: u64, bits: u128) -> Answer {
    Answer::Row(Some((value, revision(bits))))
}

fn fits(history: &[Call<Want, Answer>]) -> bool {
    is_linearizable(Store(vec![None; 2]), history)
}

#[test]
fn overlapping_calls_may_come_in_either_order() {
    for seen in [read(1, 1), read(2, 2)] {
        assert!(fits(&[
            call(0, 4, Want::Put(0, 1), wrote(1)),
            call(1, 5, Want::Put(0, 2), wrote(2)),
            call(6, 7, Want::Get(0), seen),
        ]));
    }
    assert!(fits(&[
        call(0, 9, Want::Put(0, 1), wrote(1)),
        call(1, 2, Want::Get(0), Answer::Row(None)),
        call(3, 4, Want::Get(0), read(1, 1)),
    ]));
}

#[test]
fn a_stale_read_is_found() {
    assert!(!fits(&[
        call(0, 1, Want::Put(0, 1), wrote(1)),
        call(2, 3, Want::Put(0, 2), wrote(2)),
        call(4, 5, Want::Get(0), read(1, 1)),
    ]));
}

#[test]
fn a_read_that_goes_back_is_found() {
    assert!(!fits(&[
        call(0, 9, Want::Put(0, 1), wrote(1)),
        call(1, 2, Want::Get(0), read(1, 1)),
        call(3, 4, Want::Get(0), Answer::Row(None)),
    ]));
}

#[test]
fn a_lost_update_is_found() {
    let update = |value| Want::Update(0, value, revision(1));
    assert!(!fits(&[
        call(0, 1, Want::Put(0, 1), wrote(1)),
        call(2, 5, update(2), wrote(2)),
        call(3, 6, update(3), wrote(3)),
    ]));
    assert!(fits(&[
        call(0, 1, Want::Put(0, 1), wrote(1)),
        call(2, 5, update(2), wrote(2)),
        call(3, 6, update(3), Answer::Mismatch),
    ]));
}

#[test]
fn a_half_batch_is_found() {
    let both = Want::Batch(vec![], vec![(0, Some(1)), (1, Some(1))]);
    let half = Answer::Rows(vec![Some((1, revision(1))), None]);
    assert!(!fits(&[call(0, 9, both, wrote(1)), call(1, 2, Want::List, half)]));
}

#[test]
fn a_revision_given_twice_is_found() {
    assert!(!fits(
        &[call(0, 1, Want::Put(0, 1), wrote(1)), call(2, 3, Want::Put(0, 2), wrote(1)),]
    ));
}

#[test]
fn what_was_not_answered_may_have_happened_as_a_whole() {
    let judged = |answer: Answer, began: u64| {
        let both = Want::Batch(vec![], vec![(0, Some(1)), (1, Some(1))]);
        let seen = call(2, 3, Want::List, answer);
        let history = History { calls: vec![seen], open: vec![(began, both)] };
        let open = history.open(2);
        is_linearizable_with(Store(vec![None; 2]), &history.calls, &open)
    };
    let row = Some((1, revision(7)));
    assert!(judged(Answer::Rows(vec![row, row]), 0));
    assert!(judged(Answer::Rows(vec![None, None]), 0));
    assert!(!judged(Answer::Rows(vec![row, None]), 0), "a half of it");
    assert!(!judged(Answer::Rows(vec![row, row]), 4), "before it was asked");
}

#[tokio::test]
async fn one_wrong_answer_spoils_a_real_history() {
    let clock = Arc::new(ManualClock::new(START));
    let options = MemoryOptions { clock, ..MemoryOptions::default() };
    let store = Arc::new(Memory::new(options));
    let mut history = record(store, 5, 2, 20, Fate::Lives).await.calls;
    assert!(fits(&history));
    let rows = history.iter_mut().find(|call| matches!(call.answer, Answer::Row(Some(_)))).unwrap();
    rows.answer = read(777, 777);
    assert!(!fits(&history));
}
