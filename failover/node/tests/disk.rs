//! Records on a disk survive what they should, and nothing else.

use firedrill_node::disk::{Disk, Folder, Storage, read_records, write_record};
use firedrill_node::memory_disk::MemoryDisk;
use firedrill_protocols::contract::*;
use std::path::PathBuf;

#[derive(Debug)]
struct Numbers;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Nothing {}

impl System for Numbers {
    const NAME: &'static str = "numbers";
    type Message = ();
    type Kind = Nothing;
    type Timer = Nothing;
    type Record = u64;

    fn wire_size(_message: &()) -> usize {
        0
    }
}

/// A folder of its own for each test, removed at its end.
struct TestFolder(PathBuf);

impl TestFolder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("firedrill-disk-{}-{test}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        TestFolder(path)
    }

    fn disk(&self) -> Disk<Numbers, Folder> {
        Disk::new(Folder::new(&self.0).expect("the folder can be made").with_synced_notes())
    }

    fn records(&self, file: &str) -> Vec<u64> {
        self.disk().load().expect("the folder can be read").records(file).to_vec()
    }
}

impl Drop for TestFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn sync<D: Storage>(disk: &mut Disk<Numbers, D>, file: &'static str) {
    disk.sync(file).await.expect("the sync succeeds");
}

#[tokio::test]
async fn appended_records_survive_the_process_and_synced_ones_the_host() {
    let folder = TestFolder::new("append");
    let mut disk = folder.disk();
    disk.append("log", &1);
    disk.append("log", &2);
    sync(&mut disk, "log").await;
    disk.append("log", &3);
    drop(disk);
    assert_eq!(folder.records("log"), [1, 2, 3]);
    Folder::lose_unsynced(&folder.0).expect("the folder can be cut");
    assert_eq!(folder.records("log"), [1, 2]);
}

#[tokio::test]
async fn a_torn_or_damaged_tail_costs_only_itself_and_new_records_follow_the_whole_ones() {
    let folder = TestFolder::new("torn");
    let mut disk = folder.disk();
    (1..=3).for_each(|number| disk.append("log", &number));
    drop(disk);
    let path = folder.0.join("log");
    let whole = std::fs::read(&path).expect("the file is there");
    for cut in 1..9 {
        std::fs::write(&path, &whole[..whole.len() - cut]).expect("the file can be cut");
        let mut disk = folder.disk();
        assert_eq!(disk.load().expect("readable").records("log"), [1, 2], "{cut} bytes short");
        disk.append("log", &9);
        assert_eq!(folder.records("log"), [1, 2, 9], "{cut} bytes short");
    }
    let mut damaged = whole.clone();
    damaged[9 + 8] ^= 1;
    std::fs::write(&path, damaged).expect("the file can be written");
    assert_eq!(folder.records("log"), [1]);
}

#[tokio::test]
async fn a_replacement_is_whole_or_not_there() {
    let folder = TestFolder::new("replace");
    let mut disk = folder.disk();
    disk.replace("vote", &7);
    sync(&mut disk, "vote").await;
    disk.replace("vote", &8);
    drop(disk);
    assert_eq!(folder.records("vote"), [8], "a process crash keeps what was written");

    let mut disk = folder.disk();
    disk.load().expect("readable");
    sync(&mut disk, "vote").await;
    disk.replace("vote", &9);
    drop(disk);
    let new = folder.0.join("vote.new");
    let torn = std::fs::read(&new).expect("the replacement is beside the file");
    std::fs::write(&new, &torn[..torn.len() - 1]).expect("it can be torn");
    assert_eq!(folder.records("vote"), [8], "a torn replacement never took place");

    let mut disk = folder.disk();
    disk.replace("vote", &10);
    drop(disk);
    Folder::lose_unsynced(&folder.0).expect("the folder can be cut");
    assert_eq!(folder.records("vote"), [8], "a host crash takes an unsynced replacement");
}

/// A voter that stands, and votes for another before its own vote is stored, has two syncs of one replaced file under
/// way.
#[tokio::test]
async fn syncs_of_a_file_that_is_replaced_again_and_again_all_succeed_and_the_last_content_stays() {
    let folder = TestFolder::new("overlap");
    let mut disk = folder.disk();
    let mut syncs = tokio::task::JoinSet::new();
    let local = tokio::task::LocalSet::new();
    for number in 1..=100 {
        disk.replace("vote", &number);
        syncs.spawn_local_on(disk.sync("vote"), &local);
        if number % 10 == 0 {
            disk.append("vote", &number);
        }
    }
    let results = local.run_until(async { syncs.join_all().await }).await;
    assert_eq!(results, vec![Ok(()); 100]);
    drop(disk);
    Folder::lose_unsynced(&folder.0).expect("the folder is there");
    assert_eq!(folder.records("vote").first(), Some(&100), "the last replacement was durable");
}

#[tokio::test]
async fn truncating_counts_records() {
    let folder = TestFolder::new("truncate");
    let mut disk = folder.disk();
    (1..=5).for_each(|number| disk.append("log", &(number * 1000)));
    disk.truncate("log", 2);
    disk.append("log", &6);
    assert_eq!(folder.records("log"), [1000, 2000, 6]);
    let mut again = folder.disk();
    again.load().expect("readable");
    again.truncate("log", 0);
    assert_eq!(folder.records("log"), [0u64; 0]);
}

fn memory_records(memory: &MemoryDisk) -> Vec<u64> {
    Disk::<Numbers, _>::new(memory.clone()).load().expect("memory").records("log").to_vec()
}

#[tokio::test(start_paused = true)]
async fn the_memory_disk_loses_a_suffix_of_what_was_not_synced() {
    let mut left = std::collections::BTreeSet::new();
    for seed in 0..50 {
        let memory = MemoryDisk::default();
        let mut disk: Disk<Numbers, _> = Disk::new(memory.clone());
        disk.append("log", &1);
        sync(&mut disk, "log").await;
        disk.append("log", &2);
        disk.append("log", &3);
        assert_eq!(memory_records(&memory), [1, 2, 3]);
        memory.lose_power(&mut stream(seed, 1, 1, 1));
        left.insert(memory_records(&memory));
    }
    assert_eq!(left.into_iter().collect::<Vec<_>>(), [vec![1], vec![1, 2], vec![1, 2, 3]]);
}

#[tokio::test(start_paused = true)]
async fn a_full_memory_disk_refuses_and_says_so_at_the_sync() {
    let memory = MemoryDisk::default();
    let mut disk: Disk<Numbers, _> = Disk::new(memory.clone());
    disk.append("log", &1);
    memory.set(|state| state.full = true);
    disk.append("log", &2);
    assert_eq!(disk.sync("log").await, Err(DiskError::Full));
    memory.set(|state| state.full = false);
    assert_eq!(disk.sync("log").await, Ok(()));
    assert_eq!(memory_records(&memory), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_sync_covers_what_was_there_when_it_began_even_if_the_file_is_replaced_meanwhile() {
    for seed in 0..20 {
        let memory = MemoryDisk::default();
        memory.set_sync_time(Box::new(|| Duration::from_millis(5)));
        let mut disk: Disk<Numbers, _> = Disk::new(memory.clone());
        disk.replace("log", &1);
        let first = disk.sync("log");
        disk.replace("log", &2);
        first.await.expect("the sync succeeds");
        memory.lose_power(&mut stream(seed, 1, 1, 1));
        assert!(matches!(memory_records(&memory)[..], [1 | 2]));
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_failed_sync_should_have_stored_is_gone_with_the_power_only() {
    let memory = MemoryDisk::default();
    let mut disk: Disk<Numbers, _> = Disk::new(memory.clone());
    disk.append("log", &1);
    sync(&mut disk, "log").await;
    memory.set(|state| state.failing = Some(firedrill_node::memory_disk::Failing::Once));
    disk.append("log", &2);
    assert_eq!(disk.sync("log").await, Err(DiskError::Failed));
    disk.append("log", &3);
    sync(&mut disk, "log").await;
    assert_eq!(memory_records(&memory), [1, 2, 3]);
    memory.lose_power(&mut stream(1, 1, 1, 1));
    assert_eq!(memory_records(&memory), [1, 3]);
}

/// Inputs of the small fuzz runs; `FIREDRILL_FUZZ` asks for more.
fn fuzz_inputs() -> u64 {
    std::env::var("FIREDRILL_FUZZ").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000)
}

#[test]
fn any_bytes_are_read_as_records_up_to_the_first_damage() {
    let mut random = stream(7, 1, 1, 1);
    for _ in 0..fuzz_inputs() {
        let records: Vec<Vec<u8>> = (0..random.between(0, 4))
            .map(|_| (0..random.between(0, 20)).map(|_| random.between(0, 255) as u8).collect())
            .collect();
        let mut bytes = Vec::new();
        let mut ends = vec![0];
        for record in &records {
            write_record(record, &mut bytes);
            ends.push(bytes.len());
        }
        assert_eq!(read_records(&bytes), records);
        if bytes.is_empty() {
            continue;
        }
        let place = random.between(0, bytes.len() as u64 - 1) as usize;
        bytes[place] ^= 1 << random.between(0, 7);
        let untouched = ends.iter().filter(|&&end| end <= place).count() - 1;
        let read = read_records(&bytes);
        assert!(read.len() >= untouched, "records before the damage are kept");
        assert_eq!(read[..untouched], records[..untouched]);
        let garbage: Vec<u8> = (0..random.between(0, 64)).map(|_| random.between(0, 255) as u8).collect();
        read_records(&garbage);
    }
}
