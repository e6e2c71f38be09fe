//! What fan-out asks of a log's readers, and what it leaves alone meanwhile.

use super::*;

/// A turn waits for as long as its readers take, and who has left is none of them.
#[tokio::test]
async fn no_turn_waits_for_readers_that_have_left() {
    let house = House::new(1 << 20);
    house.put(&LogRow::new("docs/a", SnapshotRule::None, 1, 0));
    let (left, _gone) = caught_up(&house, 1);
    let (_stays, _peer) = caught_up(&house, 2);
    house.hub.leave(&left);
    let mut dispatcher = dispatcher(&house);
    dispatcher.appended(LOG, 0, stored());
    dispatcher.crew.hand_out();
    // Two such readers would be worth a wait.
    dispatcher.crew.own.pace.wrote(1, Duration::from_micros(300));
    assert_eq!(dispatcher.crew.own.waits((1, 0)), None);
}
