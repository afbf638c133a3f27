//! Two machines under a random scheduler and virtual time.
//!
//! Every writer and reader is a task that runs only when it was not told to wait, or was told that
//! waiting is over; the machines transmit only when they say that they want to. When nothing can
//! run any more everything must have arrived: a lost wake-up or a stuck window shows as a task
//! that never ends. An observer on the wire keeps its own books of windows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{HashMap, VecDeque};
use std::io::IoSlice;
use std::time::{Duration, Instant};

use access_tunnel::proto::{Connection, Decoder, Event, Frame, Item, Read, Role, Transmit};
use access_tunnel::{CloseReason, Config, Error, Flavour, OpenHeader, StreamId};
use bytes::Bytes;
use proptest::prelude::*;

#[path = "support/rng.rs"]
mod rng;
use rng::Rng;

/// How one stream goes.
#[derive(Clone, Debug)]
struct Plan {
    opener: usize,
    /// Bytes each side writes, and how many at a time.
    bytes: [usize; 2],
    step: usize,
    /// This side's reader waits until all else is done.
    stalled: Option<usize>,
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// Both sides write all, finish, and read to the end.
    Whole,
    /// This side lets go after so many bytes it has read.
    Dropped {
        side: usize,
        after: usize,
    },
    /// The opener drops its half right after it finished writing.
    WriteAndGo,
    Refused,
}

#[derive(Default)]
struct Side {
    id: Option<StreamId>,
    opened: bool,
    written: usize,
    finished: bool,
    read: usize,
    eof: bool,
    gone: bool,
    error: Option<Error>,
    write_waits: bool,
    read_waits: bool,
}

struct Sim {
    rng: Rng,
    now: Instant,
    conns: [Connection; 2],
    outs: [Transmit; 2],
    wires: [VecDeque<u8>; 2],
    wire_cap: usize,
    observers: [Observer; 2],
    plans: Vec<Plan>,
    sides: Vec<[Side; 2]>,
    by_id: HashMap<StreamId, usize>,
    next_open: [usize; 2],
    release_stalled: bool,
}

/// Reads one direction of the wire and keeps what each stream was allowed.
struct Observer {
    decoder: Decoder,
    sent: HashMap<StreamId, u64>,
    granted_to_peer: HashMap<StreamId, u64>,
}

fn pattern(id: StreamId, side: usize, at: usize) -> u8 {
    (id.0 as usize * 31 + side * 101 + at * 7 + at / 251) as u8
}

impl Sim {
    fn new(seed: u64, plans: Vec<Plan>, config: Config, wire_cap: usize) -> Self {
        let now = Instant::now();
        let observer = || Observer {
            decoder: Decoder::new(65535),
            sent: HashMap::new(),
            granted_to_peer: HashMap::new(),
        };
        let sides = plans.iter().map(|_| Default::default()).collect();
        Self {
            rng: Rng(seed | 1),
            now,
            conns: [
                Connection::new(Role::Client, config.clone(), now),
                Connection::new(Role::Server, config, now),
            ],
            outs: Default::default(),
            wires: Default::default(),
            wire_cap,
            observers: [observer(), observer()],
            plans,
            sides,
            by_id: HashMap::new(),
            next_open: [0; 2],
            release_stalled: false,
        }
    }

    /// Runs until nothing can.
    fn run(&mut self) {
        loop {
            let mut todo: Vec<Todo> = Vec::new();
            for side in 0..2 {
                if !self.outs[side].is_empty() && self.wires[side].len() < self.wire_cap
                    || self.outs[side].is_empty() && self.conns[side].wants_transmit()
                {
                    todo.push(Todo::Transmit(side));
                }
                if !self.wires[side].is_empty() {
                    todo.push(Todo::Deliver(side));
                }
                if self.conns[side].is_established() && self.next_plan(side).is_some() {
                    todo.push(Todo::Open(side));
                }
            }
            for (n, plan) in self.plans.iter().enumerate() {
                for side in 0..2 {
                    let s = &self.sides[n][side];
                    if !s.opened || s.gone || s.error.is_some() {
                        continue;
                    }
                    if !s.finished && !s.write_waits {
                        todo.push(Todo::Write(n, side));
                    }
                    let stalled = plan.stalled == Some(side) && !self.release_stalled;
                    if !s.eof && !s.read_waits && !stalled {
                        todo.push(Todo::Read(n, side));
                    }
                    if s.eof && s.finished {
                        todo.push(Todo::Drop(n, side));
                    }
                }
            }
            let Some(next) = self.rng.pick(&todo) else { return };
            if self.rng.below(8) == 0 {
                self.now += Duration::from_micros(self.rng.below(3000) as u64);
            }
            self.step(next.clone());
            self.check();
        }
    }

    fn next_plan(&self, side: usize) -> Option<usize> {
        let from = self.next_open[side];
        (from..self.plans.len()).find(|n| self.plans[*n].opener == side)
    }

    fn step(&mut self, todo: Todo) {
        match todo {
            Todo::Open(side) => {
                let n = self.next_plan(side).unwrap();
                self.next_open[side] = n + 1;
                let header = OpenHeader::new(format!("plan/{n}"), Flavour::Raw);
                let id = self.conns[side].open(&header, self.now).unwrap();
                self.by_id.insert(id, n);
                self.sides[n][side].id = Some(id);
            }
            Todo::Transmit(side) => self.transmit(side),
            Todo::Deliver(side) => {
                let n = 1 + self.rng.below(self.wires[side].len());
                let bytes: Bytes = self.wires[side].drain(..n).collect();
                self.conns[1 - side].handle_input(bytes, self.now);
            }
            Todo::Write(n, side) => self.write(n, side),
            Todo::Read(n, side) => self.read(n, side),
            Todo::Drop(n, side) => self.let_go(n, side),
        }
        for side in 0..2 {
            self.events(side);
        }
    }

    fn transmit(&mut self, side: usize) {
        if self.outs[side].is_empty() {
            self.conns[side].poll_transmit(&mut self.outs[side], self.now);
        }
        let room = self.wire_cap - self.wires[side].len().min(self.wire_cap);
        let mut n = self.outs[side].len().min(room);
        if n > 1 && self.rng.below(2) == 0 {
            n = 1 + self.rng.below(n);
        }
        let mut slices = [IoSlice::new(&[]); 16];
        let count = self.outs[side].slices(&mut slices);
        let bytes: Vec<u8> =
            slices[..count].iter().flat_map(|s| s.iter().copied()).take(n).collect();
        self.outs[side].advance(bytes.len());
        self.wires[side].extend(&bytes);
        self.observe(side, bytes.into());
    }

    fn observe(&mut self, side: usize, mut bytes: Bytes) {
        while let Some(item) = self.observers[side].decoder.next(&mut bytes).unwrap() {
            let me = &mut self.observers[side];
            match item {
                Item::Data { id, bytes, .. } => {
                    *me.sent.entry(id).or_default() += bytes.len() as u64;
                    let sent = me.sent[&id];
                    let granted = self.observers[1 - side].granted_to_peer[&id];
                    assert!(sent <= granted, "{id:?}: {sent} bytes sent, {granted} granted");
                }
                Item::Frame(
                    Frame::Open { id, window, .. }
                    | Frame::Accept { id, window }
                    | Frame::Window { id, increment: window },
                ) => *me.granted_to_peer.entry(id).or_default() += u64::from(window),
                Item::Frame(_) => {}
            }
        }
    }

    fn write(&mut self, n: usize, side: usize) {
        let plan = &self.plans[n];
        let s = &mut self.sides[n][side];
        let id = s.id.unwrap();
        if s.written == plan.bytes[side] {
            match self.conns[side].finish(id) {
                Ok(()) => s.finished = true,
                Err(e) => s.error = Some(e),
            }
            if plan.end == End::WriteAndGo && side == plan.opener {
                self.let_go(n, side);
            }
            return;
        }
        let room = match self.conns[side].room(id) {
            Ok(room) => room,
            // The reader over there is gone; ours goes on.
            Err(Error::Stopped(_)) => {
                s.finished = true;
                return;
            }
            Err(e) => {
                s.error = Some(e);
                return;
            }
        };
        if room == 0 {
            s.write_waits = true;
            return;
        }
        let count = room.min(plan.step).min(plan.bytes[side] - s.written);
        let bytes: Vec<u8> =
            (s.written..s.written + count).map(|at| pattern(id, side, at)).collect();
        s.written += count;
        if self.rng.below(2) == 0 {
            self.conns[side].write(id, bytes.into()).unwrap();
        } else {
            self.conns[side].write_copy(id, &bytes).unwrap();
        }
    }

    fn read(&mut self, n: usize, side: usize) {
        let s = &mut self.sides[n][side];
        let id = s.id.unwrap();
        match self.conns[side].read(id) {
            Ok(Read::Chunk(chunk)) => {
                for byte in chunk {
                    assert_eq!(byte, pattern(id, 1 - side, s.read), "{id:?} at {}", s.read);
                    s.read += 1;
                }
                if matches!(self.plans[n].end, End::Dropped { side: who, after } if who == side && s.read >= after)
                {
                    self.let_go(n, side);
                }
            }
            Ok(Read::Eof) => s.eof = true,
            Ok(Read::Blocked) => s.read_waits = true,
            Err(e) => s.error = Some(e),
        }
    }

    fn let_go(&mut self, n: usize, side: usize) {
        let s = &mut self.sides[n][side];
        s.gone = true;
        self.conns[side].detach(s.id.unwrap());
    }

    fn events(&mut self, side: usize) {
        while let Some(event) = self.conns[side].poll_event() {
            match event {
                Event::Incoming => {
                    while let Some((id, header)) = self.conns[side].next_incoming() {
                        let n: usize =
                            header.target.strip_prefix("plan/").unwrap().parse().unwrap();
                        if self.plans[n].end == End::Refused {
                            self.conns[side].refuse(id, access_tunnel::RefuseCode(9), "no");
                            continue;
                        }
                        self.conns[side].accept(id).unwrap();
                        self.sides[n][side].id = Some(id);
                        self.sides[n][side].opened = true;
                    }
                }
                Event::Answered(id) => {
                    let s = &mut self.sides[self.by_id[&id]][side];
                    match self.conns[side].poll_open(id).unwrap() {
                        Ok(()) => s.opened = true,
                        Err(e) => {
                            s.error = Some(e);
                            s.gone = true;
                            self.conns[side].detach(id);
                        }
                    }
                }
                Event::Readable(id) => self.sides[self.by_id[&id]][side].read_waits = false,
                Event::Writable(id) => self.sides[self.by_id[&id]][side].write_waits = false,
                Event::Closed => panic!("closed: {:?}", self.conns[side].close_reason()),
                _ => {}
            }
        }
    }

    fn check(&self) {
        for conn in &self.conns {
            let stats = conn.stats();
            assert!(stats.unread <= stats.windows);
            assert!(stats.windows <= conn.config().max_receive_memory);
        }
    }

    /// Everything that does not hang on a stalled reader has happened; with none, everything.
    fn assert_ended(&self, stalled_too: bool) {
        for (n, plan) in self.plans.iter().enumerate() {
            if plan.stalled.is_some() && !stalled_too {
                continue;
            }
            let [a, b] = &self.sides[n];
            let context = format!("stream {n}: {plan:?}");
            match plan.end {
                End::Refused => assert!(
                    matches!(self.sides[n][plan.opener].error, Some(Error::Refused { .. })),
                    "{context}"
                ),
                End::Whole => {
                    assert_eq!((&a.error, &b.error), (&None, &None), "{context}");
                    assert!(a.gone && b.gone, "{context}");
                    assert_eq!((a.read, b.read), (plan.bytes[1], plan.bytes[0]), "{context}");
                }
                End::WriteAndGo => {
                    let reader = &self.sides[n][1 - plan.opener];
                    assert_eq!(reader.error, None, "{context}");
                    assert_eq!(reader.read, plan.bytes[plan.opener], "{context}");
                    assert!(reader.gone, "{context}");
                }
                End::Dropped { .. } => {
                    let over = |s: &Side| s.gone || s.error.is_some();
                    assert!(over(a) && over(b), "{context}");
                }
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Todo {
    Open(usize),
    Transmit(usize),
    Deliver(usize),
    Write(usize, usize),
    Read(usize, usize),
    Drop(usize, usize),
}

fn plan() -> impl Strategy<Value = Plan> {
    let end = prop_oneof![
        5 => Just(End::Whole),
        1 => (0..2usize, 0..60_000usize).prop_map(|(side, after)| End::Dropped { side, after }),
        1 => Just(End::WriteAndGo),
        1 => Just(End::Refused),
    ];
    (
        0..2usize,
        prop_oneof![3 => 0..3000usize, 2 => 0..120_000usize],
        0..60_000usize,
        prop_oneof![1..100usize, 1000..40_000usize],
        proptest::option::weighted(0.2, 0..2usize),
        end,
    )
        .prop_map(|(opener, a, b, step, stalled, end)| {
            let step = step.max(a.max(b) / 200);
            Plan { opener, bytes: [a, b], step, stalled, end }
        })
}

fn config() -> impl Strategy<Value = Config> {
    (1024..20_000usize, 16_384..100_000u32, 1024..70_000usize, 1024..90_000usize, 0..3usize)
        .prop_map(|(frame, window, send, batch, memory)| {
            let mut config = Config::new();
            config.max_frame = frame;
            config.initial_window = window;
            config.max_window = window * 4;
            config.send_buffer = send;
            config.max_send_memory = [send, send * 3, 1 << 26][memory];
            config.transmit_batch = batch;
            config.max_receive_memory = [512 << 10, 2 << 20, 64 << 20][memory];
            config
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn everything_arrives_in_order_whatever_the_schedule(
        seed in any::<u64>(),
        plans in proptest::collection::vec(plan(), 1..12),
        config in config(),
        wire_cap in 1usize..100_000,
    ) {
        let mut sim = Sim::new(seed, plans, config, wire_cap.max(64));
        sim.run();
        sim.assert_ended(false);
        sim.release_stalled = true;
        sim.run();
        sim.assert_ended(true);
        // Nobody holds anything any more: the tables are empty, and a go-away ends the tunnel.
        for n in 0..sim.plans.len() {
            for side in 0..2 {
                if sim.sides[n][side].error.is_some() && !sim.sides[n][side].gone {
                    sim.let_go(n, side);
                }
            }
        }
        sim.run();
        for side in 0..2 {
            let stats = sim.conns[side].stats();
            prop_assert_eq!((stats.streams, stats.unread, stats.unsent, stats.windows), (0, 0, 0, 0));
        }
        sim.conns[0].go_away(access_tunnel::CloseCode::NORMAL);
        prop_assert_eq!(sim.conns[0].close_reason(), Some(&CloseReason::Drained));
    }
}
