//! The cache of hot rows against a plain map: whatever is changed, forgotten and put back, a row is
//! what was last decided, all that changed is saved, and memory is bounded.

use std::collections::BTreeMap;

use highwater::rows::{Cache, Hot, Io, MemoryRows, Rows, RowsError, Table};

#[derive(Debug, Clone, Copy, PartialEq)]
struct Row(u64);

fn key(of: u64) -> Vec<u8> {
    of.to_be_bytes().to_vec()
}

impl Hot for Row {
    type Key = u64;

    fn load(of: &u64, io: &Io<'_>) -> Result<Option<Self>, RowsError> {
        Ok(io.get(Table::Meta, &key(*of))?.map(Row))
    }

    fn save(&mut self, of: &u64, io: &mut Io<'_>) {
        io.put(Table::Meta, key(*of), &self.0);
    }

    /// A row that was changed often is a heavy one.
    fn weight(&self) -> usize {
        100 * usize::try_from(self.0).unwrap()
    }
}

struct Tried {
    rows: MemoryRows,
    cache: Cache<Row>,
    map: BTreeMap<u64, u64>,
}

impl Tried {
    fn new(most: usize) -> Self {
        let (rows, cache, map) = (MemoryRows::default(), Cache::new(most, 10_000), BTreeMap::new());
        Self { rows, cache, map }
    }

    /// A batch of operations, each a key and what is done to it.
    fn batch(&mut self, steps: &[(u64, char)]) {
        let mut io = Io::new(&self.rows);
        for (of, what) in steps {
            match what {
                'i' => {
                    self.cache.insert(*of, Row(1));
                    self.map.insert(*of, 1);
                }
                'c' => {
                    let row = self.cache.change(of, &io).unwrap();
                    assert_eq!(row.is_some(), self.map.contains_key(of));
                    if let Some(row) = row {
                        row.0 += 1;
                        *self.map.get_mut(of).unwrap() += 1;
                    }
                }
                'f' => {
                    self.cache.forget(of);
                    io.remove(Table::Meta, key(*of));
                    self.map.remove(of);
                }
                'p' => {
                    let seen = self.cache.peek(of, &io, |row| row.0).unwrap();
                    assert_eq!(seen, self.map.get(of).copied());
                }
                _ => {
                    let seen = self.cache.get(of, &io).unwrap().map(|row| row.0);
                    assert_eq!(seen, self.map.get(of).copied());
                }
            }
        }
        self.cache.save(&mut io);
        self.cache.shrink();
        let writes = io.writes;
        self.rows.commit(&writes);
        let kept = self.rows.iter().map(|((_, key), _)| {
            let of = u64::from_be_bytes(key.as_slice().try_into().unwrap());
            (of, Io::new(&self.rows).get(Table::Meta, key).unwrap().unwrap())
        });
        assert_eq!(kept.collect::<BTreeMap<u64, u64>>(), self.map);
    }
}

#[test]
fn situations() {
    for most in [0, 1, 2, 100] {
        let mut tried = Tried::new(most);
        for batch in [
            "1g 1i 1g",
            "1c 1f 1g 1i 1c",
            "1f 1g 1p",
            "1i 1f",
            "1g 1i 1i 1c",
            "2i 3i 4i 5i",
            "1g 2c 1c 5p",
            "6i 6f 6i 6f 6g",
            "2f 2i 2f 2c 2p",
            "1c",
        ] {
            let steps: Vec<_> = (batch.split(' '))
                .map(|word| (u64::from(word.as_bytes()[0] - b'0'), word.as_bytes()[1] as char))
                .collect();
            tried.batch(&steps);
        }
    }
}

#[test]
fn every_short_run_of_operations_on_two_rows() {
    let steps: Vec<_> =
        ['i', 'c', 'f', 'g', 'p'].iter().flat_map(|what| [(1, *what), (2, *what)]).collect();
    for first in &steps {
        for second in &steps {
            for third in &steps {
                for most in [0, 2] {
                    let mut tried = Tried::new(most);
                    tried.batch(&[(1, 'i'), *first]);
                    tried.batch(&[*second, *third]);
                    tried.batch(&[*first, *third, *second]);
                }
            }
        }
    }
}

/// Part of promise 5 and 10: rows in memory are bounded between batches, also after one that
/// touched many.
#[test]
fn rows_in_memory_are_bounded() {
    let mut tried = Tried::new(10);
    let many: Vec<_> = (0..1_000).map(|of| (of, 'i')).collect();
    tried.batch(&many);
    assert!(tried.cache.len() <= 10);
    for of in 0..1_000 {
        tried.batch(&[(of, 'g')]);
        assert!(tried.cache.len() <= 16 && !tried.cache.is_empty());
    }
    let looked: Vec<_> = (0..1_000).map(|of| (of, 'p')).collect();
    let mut io = Io::new(&tried.rows);
    for (of, _) in &looked {
        tried.cache.peek(of, &io, |_| ()).unwrap();
    }
    assert!(tried.cache.len() <= 16);
    tried.cache.save(&mut io);
    assert_eq!(io.writes.rows.len(), 0);
}

/// And so are their bytes, however few they are and whenever they have grown.
#[test]
fn bytes_in_memory_are_bounded() {
    let mut tried = Tried::new(1_000);
    tried.batch(&(0..60).map(|of| (of, 'i')).collect::<Vec<_>>());
    assert!(tried.cache.bytes() <= 15_000 && tried.cache.len() > 20, "{:?}", tried.cache.len());
    for _ in 0..50 {
        for of in 0..60 {
            tried.batch(&[(of, 'c')]);
            assert!(tried.cache.bytes() <= 15_100, "{}", tried.cache.bytes());
        }
    }
    // Each alone weighs 5,000 now: two are half of what may be held.
    assert!((1..=3).contains(&tried.cache.len()), "{}", tried.cache.len());
    tried.batch(&(0..60).map(|of| (of, 'f')).collect::<Vec<_>>());
    assert_eq!((tried.cache.len(), tried.cache.bytes()), (0, 0));
}

#[test]
fn a_scan_sees_what_is_pending() {
    let mut tried = Tried::new(2);
    tried.batch(&(0..10).map(|of| (of, 'i')).collect::<Vec<_>>());
    let mut io = Io::new(&tried.rows);
    (0..5).for_each(|of| io.remove(Table::Meta, key(of)));
    io.put(Table::Meta, key(7), &70_u64);
    io.put(Table::Meta, key(20), &20_u64);
    let scan = |from: u64, most| -> Vec<u8> {
        io.scan(Table::Meta, &[], &key(from), most).unwrap().iter().map(|(key, _)| key[7]).collect()
    };
    assert_eq!(scan(0, 3), [5, 6, 7]);
    assert_eq!(scan(0, 100), [5, 6, 7, 8, 9, 20]);
    assert_eq!(scan(9, 2), [9, 20]);
    assert_eq!(scan(6, 0), Vec::<u8>::new());
    assert_eq!(io.get::<u64>(Table::Meta, &key(7)).unwrap(), Some(70));
    assert!(tried.rows.get(Table::Meta, &key(3)).unwrap().is_some());
}
