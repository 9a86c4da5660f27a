#![allow(clippy::unwrap_used)]
use super::*;
use std::io::Write;
use std::sync::LazyLock;
use std::time::{Duration, UNIX_EPOCH};
use tempfile::TempDir;

const APP: AppId = AppId(7);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

static BEGIN: LazyLock<i64> =
    LazyLock::new(|| i64::try_from(UNIX_EPOCH.elapsed().unwrap().as_nanos()).unwrap());

fn settings() -> LogSettings {
    LogSettings { keep: 14 * DAY, max_bytes: 64 << 20, requests: 50 }
}

fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn entry(number: i64, process: &str, text: &str) -> LogEntry {
    let at_nanos = *BEGIN + number;
    LogEntry { at_nanos, source: Source::App, process: process.to_owned(), release: 3, text: text.to_owned() }
}

fn append(logs: &Logs, range: std::ops::Range<i64>) {
    for number in range {
        logs.append(APP, entry(number, "web.1", &format!("line {number}")));
    }
}

fn texts(entries: &[LogEntry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.text.as_str()).collect()
}

async fn tail(logs: &Logs, count: usize) -> Vec<LogEntry> {
    logs.tail(APP, count, &Filter::default()).await.unwrap()
}

fn files(directory: &TempDir) -> Vec<segment::Segment> {
    segment::list(&directory.path().join("7")).unwrap()
}

#[tokio::test]
async fn the_last_lines_are_those_appended_last_even_after_reopening() {
    let directory = directory();
    let logs = Logs::open(directory.path(), settings()).unwrap();
    append(&logs, 0..5000);
    assert_eq!(texts(&tail(&logs, 3).await), ["line 4997", "line 4998", "line 4999"]);
    assert_eq!(tail(&logs, 1_000_000).await.len(), 5000);
    assert!(tail(&logs, 0).await.is_empty());
    logs.flush().await.unwrap();
    drop(logs);
    let logs = Logs::open(directory.path(), settings()).unwrap();
    append(&logs, 5000..5001);
    assert_eq!(texts(&tail(&logs, 2).await), ["line 4999", "line 5000"]);
    assert_eq!(files(&directory).len(), 1, "it goes on in the same file");
}

#[tokio::test]
async fn lines_reach_the_disk_within_a_moment_by_themselves() {
    let directory = directory();
    let logs = Logs::open(directory.path(), settings()).unwrap();
    append(&logs, 0..1);
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(files(&directory).first().map(|file| file.length > 0), Some(true));
}

#[tokio::test]
async fn what_a_crash_tore_is_removed() {
    let directory = directory();
    let logs = Logs::open(directory.path(), settings()).unwrap();
    append(&logs, 0..3);
    logs.flush().await.unwrap();
    let path = files(&directory).pop().unwrap().path;
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"1767323045000000003\tapp\tweb.1\t3\tline").unwrap();
    let logs = Logs::open(directory.path(), settings()).unwrap();
    assert_eq!(texts(&tail(&logs, 1).await), ["line 2"], "not shown");
    append(&logs, 4..5);
    assert_eq!(texts(&tail(&logs, 2).await), ["line 2", "line 4"], "nor joined to the next");
}

#[tokio::test]
async fn a_damaged_line_costs_only_itself() {
    let directory = directory();
    let logs = Logs::open(directory.path(), settings()).unwrap();
    append(&logs, 0..1);
    logs.flush().await.unwrap();
    let path = files(&directory).pop().unwrap().path;
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"\xff\xfe\0garbage\n\n1\tnobody\tx\t1\ty\n").unwrap();
    let logs = Logs::open(directory.path(), settings()).unwrap();
    append(&logs, 1..2);
    assert_eq!(texts(&tail(&logs, 10).await), ["line 0", "line 1"]);
}

#[tokio::test]
async fn segments_rotate_and_the_oldest_go_first() {
    let directory = directory();
    let small = LogSettings { max_bytes: 1 << 20, ..settings() };
    let logs = Logs::open(directory.path(), small).unwrap();
    let long = "x".repeat(1000);
    for number in 0..4000 {
        logs.append_all(APP, entry(number, "web.1", &format!("{number} {long}"))).await;
    }
    logs.prune().await.unwrap();
    logs.flush().await.unwrap();
    logs.prune().await.unwrap();
    let files = files(&directory);
    let total: u64 = files.iter().map(|file| file.length).sum();
    assert!(files.len() > 2 && total <= 1 << 20, "{} files, {total} bytes", files.len());
    let kept = tail(&logs, 10_000).await;
    assert!(kept.len() > 500, "{}", kept.len());
    let first = 4000 - i64::try_from(kept.len()).unwrap();
    for (number, entry) in (first..).zip(&kept) {
        assert!(entry.text.starts_with(&format!("{number} ")), "no gap across files");
    }
}

#[tokio::test]
async fn what_is_too_old_goes() {
    let directory = directory();
    let logs = Logs::open(directory.path(), settings()).unwrap();
    append(&logs, 0..3);
    logs.flush().await.unwrap();
    let old = std::time::SystemTime::now() - 15 * DAY;
    let path = files(&directory).pop().unwrap().path;
    std::fs::File::options().append(true).open(path).unwrap().set_modified(old).unwrap();
    logs.prune().await.unwrap();
    assert!(tail(&logs, 10).await.is_empty());
    append(&logs, 3..4);
    assert_eq!(texts(&tail(&logs, 10).await), ["line 3"], "and it goes on");
}

#[tokio::test]
async fn filters_choose_by_source_process_and_release() {
    let directory = directory();
    let logs = Logs::open(directory.path(), settings()).unwrap();
    logs.append(APP, entry(0, "web.1", "one"));
    logs.append(APP, entry(1, "web.2", "two"));
    logs.append(APP, LogEntry { source: Source::Build, release: 4, ..entry(2, "v4", "three") });
    let chosen =
        async |filter: Filter| -> String { texts(&logs.tail(APP, 10, &filter).await.unwrap()).join(" ") };
    assert_eq!(chosen(Filter { process: Some("web".into()), ..Filter::default() }).await, "one two");
    assert_eq!(chosen(Filter { process: Some("web.2".into()), ..Filter::default() }).await, "two");
    assert_eq!(chosen(Filter { source: Some(Source::Build), ..Filter::default() }).await, "three");
    assert_eq!(chosen(Filter { release: Some(3), ..Filter::default() }).await, "one two");
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_and_follow_has_no_gap_and_nothing_twice() {
    let directory = directory();
    let logs = Logs::open(directory.path(), settings()).unwrap();
    let writing = {
        let logs = logs.clone();
        tokio::spawn(async move {
            for number in 0..20_000 {
                logs.append_all(APP, entry(number, "web.1", &number.to_string())).await;
                if number % 500 == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        })
    };
    tokio::time::sleep(Duration::from_millis(10)).await;
    let (before, mut follower) = logs.tail_and_follow(APP, usize::MAX, &Filter::default()).await.unwrap();
    let mut expected = 0;
    for entry in &before {
        assert_eq!(entry.text, expected.to_string());
        expected += 1;
    }
    while expected < 20_000 {
        let entry = follower.next().await.unwrap();
        assert_eq!(entry.text, expected.to_string());
        expected += 1;
    }
    writing.await.unwrap();
    assert!(before.len() < 20_000, "some came by following");
}

#[tokio::test]
async fn followers_see_only_their_app_and_what_they_asked_for() {
    let directory = directory();
    let logs = Logs::open(directory.path(), settings()).unwrap();
    let filter = Filter { process: Some("web".into()), ..Filter::default() };
    let mut follower = logs.follow(APP, &filter).await.unwrap();
    logs.append(AppId(8), entry(0, "web.1", "another app"));
    logs.append(APP, entry(1, "worker.1", "another process"));
    logs.append(APP, entry(2, "web.1", "mine"));
    assert_eq!(follower.next().await.unwrap().text, "mine");
    logs.forget(APP).await.unwrap();
    assert!(follower.next().await.is_none(), "the app is gone");
}

#[tokio::test]
async fn a_follower_that_is_too_slow_is_told_so() {
    let directory = directory();
    let logs = Logs::open(directory.path(), settings()).unwrap();
    let mut follower = logs.follow(APP, &Filter::default()).await.unwrap();
    append(&logs, 0..10_000);
    logs.flush().await.unwrap();
    for number in 0..4096 {
        assert_eq!(follower.next().await.unwrap().text, format!("line {number}"));
    }
    append(&logs, 10_000..10_001);
    assert_eq!(follower.next().await.unwrap().text, "… 5904 lines dropped");
    assert_eq!(follower.next().await.unwrap().text, "line 10000");
    assert_eq!(tail(&logs, usize::MAX).await.len(), 10_001, "the file has them all");
}

#[tokio::test]
async fn a_flood_is_bounded_and_counted() {
    let directory = directory();
    let logs = Logs::open(directory.path(), settings()).unwrap();
    let long = "x".repeat(16_000);
    let start = std::time::Instant::now();
    for number in 0..20_000 {
        logs.append(APP, entry(number, "web.1", &long));
    }
    assert!(start.elapsed() < Duration::from_secs(5));
    logs.flush().await.unwrap();
    logs.flush().await.unwrap();
    let notes = logs
        .tail(APP, 10_000, &Filter { source: Some(Source::Platform), ..Filter::default() })
        .await
        .unwrap();
    assert!(!notes.is_empty() && notes.iter().all(|note| note.text.ends_with(" dropped")), "{notes:?}");
}

#[tokio::test]
async fn a_collector_finds_where_it_was() {
    let directory = directory();
    let logs = Logs::open(directory.path(), settings()).unwrap();
    append(&logs, 0..3);
    logs.append(APP, LogEntry { release: 4, ..entry(9, "web.1", "of another release") });
    logs.append(APP, entry(9, "web.2", "of another process"));
    logs.append(APP, LogEntry { source: Source::Platform, ..entry(9, "web.1", "about it") });
    logs.flush().await.unwrap();
    let logs = Logs::open(directory.path(), settings()).unwrap();
    assert_eq!(logs.last_seen(APP, "web.1", 3).await.unwrap(), Some(entry(2, "", "").at_nanos));
    assert_eq!(logs.last_seen(APP, "web.3", 3).await.unwrap(), None);
    assert_eq!(logs.last_seen(AppId(1), "web.1", 3).await.unwrap(), None);
}

#[tokio::test]
async fn keep_zero_stores_nothing_and_still_follows() {
    let directory = directory();
    let logs = Logs::open(directory.path(), settings()).unwrap();
    append(&logs, 0..3);
    logs.flush().await.unwrap();
    let none = LogSettings { keep: Duration::ZERO, ..settings() };
    let logs = Logs::open(directory.path(), none).unwrap();
    let mut follower = logs.follow(APP, &Filter::default()).await.unwrap();
    append(&logs, 3..4);
    assert_eq!(follower.next().await.unwrap().text, "line 3");
    logs.flush().await.unwrap();
    assert!(tail(&logs, 10).await.is_empty());
    assert!(files(&directory).is_empty());
}

#[tokio::test]
async fn forgetting_removes_the_directory_and_the_app_may_come_back() {
    let directory = directory();
    let logs = Logs::open(directory.path(), settings()).unwrap();
    append(&logs, 0..3);
    logs.forget(APP).await.unwrap();
    logs.forget(APP).await.unwrap();
    logs.flush().await.unwrap();
    assert_eq!(directory.path().read_dir().unwrap().count(), 0);
    append(&logs, 3..4);
    assert_eq!(texts(&tail(&logs, 10).await), ["line 3"]);
}

#[tokio::test]
async fn a_log_that_cannot_be_written_is_counted_and_recovers() {
    let directory = directory();
    let logs = Logs::open(directory.path(), settings()).unwrap();
    let blocked = directory.path().join("7");
    std::fs::write(&blocked, "a file in the way").unwrap();
    append(&logs, 0..3);
    logs.flush().await.unwrap();
    std::fs::remove_file(&blocked).unwrap();
    append(&logs, 3..4);
    logs.flush().await.unwrap();
    assert_eq!(texts(&tail(&logs, 10).await), ["line 3", "… 3 lines dropped"]);
}
