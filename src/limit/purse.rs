//! A purse: what one socket or one request may spend of its user's budgets, and of logs'.
//!
//! Promise: a frame is taken as far as the budgets let it, and only that is charged. What did not
//! fit is *booked* for its holder, a writer on this socket: the budgets owe it, first come first
//! served, the refusal tells when it is ripe, and from then on exactly that is the holder's. So the
//! time told is true, and whoever asks for little cannot starve who asks for much, nor the other
//! way round. A booking that nobody takes up lapses; with the purse all of it is given back.
//!
//! A socket's purse also holds *credit*: a share of the user's budgets that is set aside before it
//! is asked for, and spent first. It never shrinks but by being spent, or by a refusal that tells
//! of a booking in its place: so a client that keeps to what it was told is not refused.
//!
//! What is owed is bounded by [`LONGEST`]: beyond it nothing is booked, and the time told is that
//! at which it would fit if nobody else came. Only a budget that owes nothing takes any booking,
//! so that one large append passes a small budget.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use governor::clock::{Clock, DefaultClock};

use super::cost::{Charged, Costs, ROW_BYTES};
use super::level::{Level, SECOND, Speed};
use super::rate::{Budget, Levels, Rates};
use crate::wire::{Code, Credit, Id, Refusal};

/// What a budget may owe, as the time in which it comes back.
const LONGEST: u64 = 60 * SECOND;
/// How long what is ripe waits for its holder.
const LAPSE: u64 = 10 * SECOND;
/// Bookings of one purse: those of the writers that one client speaks for, and some requests.
const MOST_BOOKINGS: usize = 32;
/// Of a user's budgets this part, shared among its sockets, is given as credit.
const CREDIT_PART: u64 = 4;
/// Most appends that one socket has as credit: what may be in flight of four writers.
const MOST_CREDIT: u64 = 4_096;
/// No refusal came before: what is left of a booking serves any frame of its holder.
const ANY: u64 = u64::MAX;

pub(super) const APPENDS: &str = "too many appends of this user in a second";
const BYTES: &str = "too many bytes appended by this user in a second";
const LOG: &str = "too many appends to this log in a second";

/// Appends and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    appends: u64,
    bytes: u64,
}

impl Sum {
    fn add(&mut self, other: Self) {
        self.appends += other.appends;
        self.bytes += other.bytes;
    }

    /// Takes what there is of what is wanted: what is wanted beyond.
    fn draw(&mut self, wanted: Self) -> Self {
        let appends = wanted.appends.min(self.appends);
        let bytes = wanted.bytes.min(self.bytes);
        self.appends -= appends;
        self.bytes -= bytes;
        Self { appends: wanted.appends - appends, bytes: wanted.bytes - bytes }
    }

    const fn is_nothing(self) -> bool {
        self.appends == 0 && self.bytes == 0
    }
}

/// Items that come again before one that was refused: a frame's worth.
const MOST_AGAIN: usize = 1_024;

/// What is set aside for the rest of a frame.
#[derive(Debug)]
pub(super) struct Booking {
    holder: Id,
    /// What the first refused item names as sent before it: what names a later one lies beyond.
    from: u64,
    /// So many items before it may still come again without being charged at once. Sequences are
    /// the client's word: without a bound, one that names a far one would make all before it free.
    again: usize,
    sum: Sum,
    /// Appends to logs that have a rate, sorted.
    logs: Vec<(u64, u64)>,
    ripe: u64,
    why: &'static str,
}

impl Booking {
    const fn nothing(holder: Id) -> Self {
        let sum = Sum { appends: 0, bytes: 0 };
        Self { holder, from: ANY, again: 0, sum, logs: Vec::new(), ripe: 0, why: APPENDS }
    }

    /// Takes one append to a log, if it is set aside.
    fn draw_log(&mut self, log: u64) -> bool {
        let found = self.logs.binary_search_by_key(&log, |(log, _)| *log);
        let left = found.ok().and_then(|at| self.logs.get_mut(at));
        left.filter(|(_, left)| *left > 0).map(|(_, left)| *left -= 1).is_some()
    }

    fn hand_back<C: Clock + Clone>(&self, rates: &Rates<C>, user: &Budget) {
        if !self.sum.is_nothing() {
            rates.hand_back(user, self.sum.appends, self.sum.bytes);
        }
        for (log, appends) in self.logs.iter().filter(|(_, appends)| *appends > 0) {
            rates.hand_back_log(*log, *appends);
        }
    }

    /// Whether its holder has let it lie too long.
    const fn lapsed(&self, now: u64) -> bool {
        now > self.ripe.saturating_add(LAPSE)
    }
}

/// What is set aside for one who will come back, without a socket.
#[derive(Debug)]
pub(super) struct Kept {
    user: Arc<Budget>,
    bookings: Vec<Booking>,
}

impl Kept {
    /// Gives back what was let lie; whether nothing is left.
    pub(super) fn lapse<C: Clock + Clone>(&mut self, rates: &Rates<C>, now: u64) -> bool {
        lapse(&mut self.bookings, rates, &self.user, now);
        self.bookings.is_empty()
    }
}

fn lapse<C: Clock + Clone>(bookings: &mut Vec<Booking>, rates: &Rates<C>, user: &Budget, now: u64) {
    bookings.retain(|booking| {
        let lapsed = booking.lapsed(now);
        if lapsed {
            booking.hand_back(rates, user);
        }
        !lapsed
    });
}

/// Milliseconds from now to then, rounded up and at least one.
pub(super) fn millis(then: u64, now: u64) -> u32 {
    u32::try_from(then.saturating_sub(now).div_ceil(1_000_000)).unwrap_or(u32::MAX).max(1)
}

/// How far a frame was taken.
#[derive(Debug)]
pub struct Taken<C: Clock + Clone = DefaultClock> {
    /// The receipt for what was taken, from the first item on.
    pub charged: Charged<C>,
    /// How many items that is.
    pub count: usize,
    /// Why the rest was not, and the time after which *the rest* fits.
    pub refusal: Option<Refusal>,
}

/// See above.
#[derive(Debug)]
pub struct Purse<C: Clock + Clone = DefaultClock> {
    rates: Arc<Rates<C>>,
    user: Arc<Budget>,
    bookings: Vec<Booking>,
    /// Set aside before it is asked for: what is there, and what will be.
    lease: Sum,
    later: Sum,
    later_at: u64,
    socket: bool,
    /// By what its bookings are found again when it is gone.
    key: Option<u64>,
}

impl<C: Clock + Clone> Rates<C> {
    /// A purse for a request of one of this user's writers, or of the user itself for what is named
    /// besides. What is refused stays set aside for the next purse of the same: that a user waits
    /// for one log keeps it from no other.
    pub fn purse_again(
        self: &Arc<Self>,
        user: &str,
        writer: Option<Id>,
        besides: &str,
    ) -> Purse<C> {
        let key = self.key((user, writer, besides));
        let mut purse = self.purse(user);
        purse.key = Some(key);
        if let Some((_, kept)) = self.kept.remove(&key) {
            // A hash that two share would else give one's budget to the other.
            if Arc::ptr_eq(&kept.user, &purse.user) {
                purse.bookings = kept.bookings;
            }
        }
        purse
    }
}

impl<C: Clock + Clone> Purse<C> {
    pub(super) fn new(rates: Arc<Rates<C>>, user: Arc<Budget>, socket: bool) -> Self {
        if socket {
            user.sockets.fetch_add(1, Ordering::Relaxed);
        }
        let (lease, later) = (Sum::default(), Sum::default());
        let (bookings, key) = (Vec::new(), None);
        Self { rates, user, bookings, lease, later, later_at: 0, socket, key }
    }

    /// Charges a holder's items as far as the budgets go. `numbers` says an item's sequence, and
    /// what it names as sent before it. What lies beyond items that were refused is refused with
    /// them, and costs nothing. Items that were charged and come again with those that were refused
    /// are charged when the fold has stored them after all: so the time told is enough for who
    /// sends the same frame again.
    pub fn charge_some(
        &mut self,
        holder: Id,
        mut costs: Costs,
        numbers: impl Fn(usize) -> (u64, u64),
    ) -> Taken<C> {
        let (count, refusal) = self.charge_items(holder, &mut costs, &numbers, false);
        // The rest is charged when it comes again.
        drop(costs.split_off(count));
        Taken { charged: self.charged(costs), count, refusal }
    }

    /// Charges all of the items or none.
    ///
    /// # Errors
    /// `rate` with the time after which all of them fit, and whether some would have by now.
    pub fn charge_whole(
        &mut self,
        holder: Id,
        mut costs: Costs,
    ) -> Result<Charged<C>, (Refusal, bool)> {
        match self.charge_items(holder, &mut costs, &|_| (u64::MAX, 0), true) {
            (_, None) => Ok(self.charged(costs)),
            (some, Some(refusal)) => Err((refusal, some > 0)),
        }
    }

    fn charged(&self, costs: Costs) -> Charged<C> {
        let (rates, user) = (Arc::clone(&self.rates), Arc::clone(&self.user));
        Charged { rates, user, costs, handed_in: false }
    }

    /// How many items fit, and why not all; where only the whole is wanted, no less is taken.
    fn charge_items(
        &mut self,
        holder: Id,
        costs: &mut Costs,
        numbers: &dyn Fn(usize) -> (u64, u64),
        whole: bool,
    ) -> (usize, Option<Refusal>) {
        let now = self.rates.now();
        lapse(&mut self.bookings, &self.rates, &self.user, now);
        self.ripen(now);
        let mut own = match self.booked(holder, numbers(0).1, now) {
            Ok(own) => own,
            Err(refusal) => return (0, Some(refusal)),
        };
        if own.from != ANY {
            let again = (0..costs.len()).take_while(|at| numbers(*at).0 <= own.from);
            costs.again = again.count().min(own.again);
        }
        let again = costs.again;
        own.again -= again;
        let user = Arc::clone(&self.user);
        let mut levels = user.lock();
        let mut fits = self.fits(&levels, own.sum, costs, now);
        if fits < costs.len() && !self.later.is_nothing() {
            // Who sends more than its credit has no use for credit that is still to come.
            let later = std::mem::take(&mut self.later);
            levels.appends.hand_back(self.rates.appends(), later.appends);
            levels.bytes.hand_back(self.rates.bytes(), later.bytes);
            fits = self.fits(&levels, own.sum, costs, now);
        }
        let some = self.charge_logs(&mut own, costs, fits, whole, now);
        let count = if whole && some < costs.len() { 0 } else { some };
        let paid = count.saturating_sub(again);
        let bytes = costs.bytes(again).take(paid).sum();
        let wanted = own.sum.draw(Sum { appends: paid as u64, bytes });
        let wanted = self.lease.draw(wanted);
        self.charge(&mut levels, wanted, now);
        if count < costs.len() {
            let refusal = self.book(&mut levels, own, costs, count, numbers(count).1, now);
            return (some, Some(refusal));
        }
        drop(levels);
        if own.sum.appends == 0 {
            own.hand_back(&self.rates, &self.user);
        } else {
            // The holder parted what was refused into several frames: the next one's.
            own.from = if paid == 0 { own.from } else { ANY };
            self.bookings.push(own);
        }
        (count, None)
    }

    /// What was set aside for a holder, if it is ripe and the frame begins where it was refused.
    fn booked(&mut self, holder: Id, prev: u64, now: u64) -> Result<Booking, Refusal> {
        let of = |booking: &&Booking| booking.holder == holder;
        let ripe = |booking: &Booking| booking.holder == holder && booking.ripe <= now;
        let Some(at) = self.bookings.iter().position(ripe) else {
            return match self.bookings.iter().find(of) {
                Some(booking) => Err(refused(booking.why, booking.ripe, now)),
                None => Ok(Booking::nothing(holder)),
            };
        };
        let beyond = self.bookings.get(at).filter(|booking| prev > booking.from);
        match beyond {
            Some(booking) => Err(refused(booking.why, booking.ripe, now)),
            None => Ok(self.bookings.swap_remove(at)),
        }
    }

    /// How many items fit a user's budgets with what is set aside.
    fn fits(&self, levels: &Levels, own: Sum, costs: &Costs, now: u64) -> usize {
        let rates = &self.rates;
        let appends = levels.appends.room(rates.appends(), now) + self.lease.appends + own.appends;
        let mut left = levels.bytes.room(rates.bytes(), now) + self.lease.bytes + own.bytes;
        let fits = costs.bytes(costs.again).take_while(|bytes| match left.checked_sub(*bytes) {
            Some(rest) => {
                left = rest;
                true
            }
            None => false,
        });
        costs.again + fits.count().min(usize::try_from(appends).unwrap_or(usize::MAX))
    }

    /// Charges items to logs' budgets, at most so many: how many fit.
    fn charge_logs(
        &self,
        own: &mut Booking,
        costs: &Costs,
        most: usize,
        whole: bool,
        now: u64,
    ) -> usize {
        let before = if whole { own.logs.clone() } else { Vec::new() };
        let mut taken = Vec::new();
        let mut fits = |log: u64| {
            own.draw_log(log) || {
                let fits = self.rates.charge_log(log, now);
                taken.extend(fits.then_some(log));
                fits
            }
        };
        let again = costs.again;
        let short = costs.logs(again).take(most - again).position(|log| !fits(log));
        let count = short.map_or(most, |short| again + short);
        if whole && count < costs.len() {
            taken.into_iter().for_each(|log| self.rates.hand_back_log(log, 1));
            own.logs = before;
        }
        count
    }

    fn charge(&self, levels: &mut Levels, sum: Sum, now: u64) -> (u64, u64) {
        let appends = levels.appends.charge(self.rates.appends(), sum.appends, now);
        (appends, levels.bytes.charge(self.rates.bytes(), sum.bytes, now))
    }

    /// Sets the items from `first` on aside, besides what `own` has left: the refusal of them.
    fn book(
        &mut self,
        levels: &mut Levels,
        own: Booking,
        costs: &Costs,
        first: usize,
        from: u64,
        now: u64,
    ) -> Refusal {
        // The booking takes the place of credit that was too little for what was sent.
        let back = std::mem::take(&mut self.lease);
        levels.appends.hand_back(self.rates.appends(), back.appends);
        levels.bytes.hand_back(self.rates.bytes(), back.bytes);
        let Booking { holder, sum: mut left, logs: left_in_logs, ripe: was_ripe, .. } = own;
        let rest = costs.bytes(first);
        let sum = Sum { appends: (costs.len() - first) as u64, bytes: rest.sum() };
        let more = left.draw(sum);
        levels.appends.hand_back(self.rates.appends(), left.appends);
        levels.bytes.hand_back(self.rates.bytes(), left.bytes);
        let mut logs = grouped(costs.logs(first));
        let more_in_logs = beyond(&logs, &left_in_logs);
        let (room, fits_at) = self.bounded(levels, more, &more_in_logs, now);
        if !room || self.bookings.len() >= MOST_BOOKINGS {
            let kept = Sum { appends: sum.appends - more.appends, bytes: sum.bytes - more.bytes };
            levels.appends.hand_back(self.rates.appends(), kept.appends);
            levels.bytes.hand_back(self.rates.bytes(), kept.bytes);
            for (log, appends) in left_in_logs {
                self.rates.hand_back_log(log, appends);
            }
            return refused(fits_at.1, fits_at.0, now);
        }
        for (log, appends) in beyond(&left_in_logs, &logs) {
            self.rates.hand_back_log(log, appends);
        }
        let (appends, bytes) = self.charge(levels, more, now);
        let mut last = [(appends, APPENDS), (bytes, BYTES)].into_iter().max().unwrap_or_default();
        for (log, appends) in more_in_logs {
            last = last.max((self.rates.book_log(log, appends, now), LOG));
        }
        let (ripe, why) = last.max((was_ripe, last.1));
        logs.shrink_to_fit();
        self.bookings.push(Booking { holder, from, again: MOST_AGAIN, sum, logs, ripe, why });
        refused(why, ripe, now)
    }

    /// Whether so much more may be owed, and when it would fit if nobody else came.
    fn bounded(
        &self,
        levels: &Levels,
        more: Sum,
        in_logs: &[(u64, u64)],
        now: u64,
    ) -> (bool, (u64, &'static str)) {
        let of = |level: Level, speed: Speed, units| (level.owed(now), speed.time(units));
        let appends = of(levels.appends, self.rates.appends(), more.appends);
        let bytes = of(levels.bytes, self.rates.bytes(), more.bytes);
        let logs = in_logs.iter().map(|(log, n)| (self.rates.log_owes(*log, *n, now), LOG));
        let all = [(appends, APPENDS), (bytes, BYTES)].into_iter().chain(logs);
        let mut room = true;
        let mut fits_at = (now, APPENDS);
        for ((owed, time), why) in all.filter(|((_, time), _)| *time > 0) {
            let owes = owed.saturating_add(time);
            room &= owed == 0 || owes <= LONGEST;
            fits_at = fits_at.max((now.saturating_add(owes), why));
        }
        (room, fits_at)
    }

    /// What was to come as credit has come.
    fn ripen(&mut self, now: u64) {
        if self.later_at <= now {
            let come = std::mem::take(&mut self.later);
            self.lease.add(come);
        }
    }

    /// What the holder may append from here on without being refused: what is booked for it, or
    /// credit, which is set aside now. None where that cannot be said: where logs have rates, for
    /// nobody knows which log is meant, and where a share would be less than one append.
    pub fn credit(&mut self, holder: Id) -> Option<Credit> {
        let now = self.rates.now();
        let refused = |booking: &&Booking| booking.holder == holder && booking.from != ANY;
        if let Some(booking) = self.bookings.iter().find(refused) {
            return told(booking.sum, ROW_BYTES, booking.ripe, now);
        }
        if !self.socket || self.rates.of_logs() {
            return None;
        }
        self.ripen(now);
        let sockets = u64::from(self.user.sockets.load(Ordering::Relaxed)).max(1);
        let share = |speed: Speed| speed.units() / CREDIT_PART / sockets;
        let appends = share(self.rates.appends()).min(MOST_CREDIT);
        let share = Sum { appends, bytes: share(self.rates.bytes()) };
        let mut levels = self.user.lock();
        // Out of the upper half: what comes without credit finds the other half.
        let spare =
            |level: Level, speed: Speed| level.room(speed, now).saturating_sub(speed.units() / 2);
        let spare = Sum {
            appends: spare(levels.appends, self.rates.appends()),
            bytes: spare(levels.bytes, self.rates.bytes()),
        };
        let lacks = |share: Sum, lease: Sum| Sum {
            appends: share.appends.saturating_sub(lease.appends),
            bytes: share.bytes.saturating_sub(lease.bytes),
        };
        let lack = lacks(share, self.lease);
        let more =
            Sum { appends: lack.appends.min(spare.appends), bytes: lack.bytes.min(spare.bytes) };
        self.charge(&mut levels, more, now);
        self.lease.add(more);
        let low = self.lease.appends <= share.appends / 8 || self.lease.bytes <= share.bytes / 8;
        let owed = levels.appends.owed(now).max(levels.bytes.owed(now));
        if low && self.later.is_nothing() && owed <= LONGEST {
            self.later = lacks(share, self.lease);
            let (appends, bytes) = self.charge(&mut levels, self.later, now);
            self.later_at = appends.max(bytes);
        }
        drop(levels);
        self.ripen(now);
        let mut all = self.lease;
        all.add(self.later);
        let at = if self.later.is_nothing() { now } else { self.later_at };
        // With at least as much for a record as its row takes.
        told(all, 2 * ROW_BYTES, at, now)
    }
}

/// A sum as it is told, with at least so many bytes for an append: the bytes of records alone, room
/// for their rows being kept.
fn told(sum: Sum, least: u64, at: u64, now: u64) -> Option<Credit> {
    let appends = sum.appends.min(sum.bytes / least);
    let bytes = sum.bytes - appends * ROW_BYTES;
    let after = if at > now { millis(at, now) } else { 0 };
    let appends = u32::try_from(appends).unwrap_or(u32::MAX);
    (appends > 0).then_some(Credit { appends, bytes, after })
}

fn refused(why: &'static str, at: u64, now: u64) -> Refusal {
    Refusal::because(Code::Rate, why).after(millis(at, now))
}

/// Logs that have a rate, sorted, each with how often it comes.
fn grouped(logs: impl Iterator<Item = u64>) -> Vec<(u64, u64)> {
    let mut all: Vec<_> = logs.filter(|log| *log != 0).map(|log| (log, 1)).collect();
    all.sort_unstable();
    all.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        kept.1 += if same { next.1 } else { 0 };
        same
    });
    all
}

/// Of sorted counts what is beyond others.
fn beyond(counts: &[(u64, u64)], others: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let other = |log: u64| {
        let found = others.binary_search_by_key(&log, |(log, _)| *log).ok();
        found.and_then(|at| others.get(at)).map_or(0, |(_, count)| *count)
    };
    let more = counts.iter().map(|(log, count)| (*log, count.saturating_sub(other(*log))));
    more.filter(|(_, count)| *count > 0).collect()
}

impl<C: Clock + Clone> Drop for Purse<C> {
    fn drop(&mut self) {
        if self.socket {
            self.user.sockets.fetch_sub(1, Ordering::Relaxed);
        }
        let mut lease = self.lease;
        lease.add(self.later);
        if !lease.is_nothing() {
            self.rates.hand_back(&self.user, lease.appends, lease.bytes);
        }
        let mut bookings = std::mem::take(&mut self.bookings);
        if bookings.is_empty() {
            return;
        }
        let Some(key) = self.key else {
            return bookings.iter().for_each(|one| one.hand_back(&self.rates, &self.user));
        };
        let user = Arc::clone(&self.user);
        let nothing = || Kept { user, bookings: Vec::new() };
        let mut kept = self.rates.kept.entry(key).or_insert_with(nothing);
        let room = MOST_BOOKINGS.saturating_sub(kept.bookings.len());
        let over = bookings.split_off(room.min(bookings.len()));
        kept.bookings.append(&mut bookings);
        over.iter().for_each(|one| one.hand_back(&self.rates, &self.user));
    }
}

#[cfg(test)]
mod tests;
