//! Signed heads: what the chain alone cannot show, that its end was cut off or all of it written anew.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use atlas_cert_gateway::audit::verify::{FaultKind, VerifyReport, verify};
use atlas_cert_gateway::audit::{Config, HeadVerifier, Sync};
use atlas_cert_gateway::settings::Size;
use tempfile::TempDir;

use crate::audit::trail::{PAST_SIGNATURE, Trail, number};

#[tokio::test]
async fn a_cut_off_end_is_found_where_a_signed_head_speaks_of_it() {
    let keys = tempfile::tempdir().unwrap();
    let secret = keys.path().join("secret");
    let private = keys.path().join("private.pem");
    let public = keys.path().join("public.pem");
    fs::write(&secret, "0123456789abcdef0123456789abcdef\n").unwrap();
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    fs::write(&private, pair.serialize_pem()).unwrap();
    fs::write(&public, pair.public_key_pem()).unwrap();
    for path in [&secret, &private] {
        keep_private(path);
    }
    for (signing, checking) in [
        (&secret, &secret),
        (&private, &private),
        (&private, &public),
    ] {
        let mut trail = Trail::with(|config| config.head_key_file = Some(signing.clone()));
        let key = HeadVerifier::read(checking).unwrap();
        let check =
            |trail: &Trail| verify(&trail.config.directory, 1, std::slice::from_ref(&key)).unwrap();
        trail.record("one").await.unwrap();
        trail.advance(PAST_SIGNATURE).await;
        trail.until(|| check(&trail).heads == 1).await;
        trail.record("two").await.unwrap();
        trail.record("three").await.unwrap();
        trail.audit.clone().close().await;
        let report = check(&trail);
        assert_eq!((report.heads, report.last, report.fault), (2, 4, None));
        let file = trail
            .files()
            .into_iter()
            .find(|path| is_lookups(path))
            .unwrap();
        let text = fs::read_to_string(&file).unwrap();
        let cut: String = text.split_inclusive('\n').take(3).collect();
        fs::write(&file, &cut).unwrap();
        assert_eq!(trail.verify().fault, None);
        let fault = check(&trail).fault.unwrap();
        assert_eq!((fault.seq, fault.kind), (4, FaultKind::EndMissing));
        // A restart does not give the missing numbers away again.
        trail.manual_clock.advance(Duration::from_secs(1));
        trail.audit = trail.reopened().unwrap();
        trail.record("after").await.unwrap();
        let fault = check(&trail).fault.unwrap();
        assert_eq!((fault.seq, fault.kind), (4, FaultKind::Missing));
        // A head that was tampered with is no head.
        let heads = trail
            .files()
            .into_iter()
            .find(|path| !is_lookups(path))
            .unwrap();
        fs::write(&file, &text).unwrap();
        let tampered = fs::read_to_string(&heads)
            .unwrap()
            .replace("\"seq\":4", "\"seq\":3");
        fs::write(&heads, tampered).unwrap();
        assert_eq!(check(&trail).fault.unwrap().kind, FaultKind::HeadUnsigned);
    }
}

#[tokio::test]
async fn a_chain_that_was_written_anew_does_not_agree_with_a_signed_head() {
    let key = Key::new();
    let honest = key.trail(|_| ());
    honest.record("alice").await.unwrap();
    honest.audit.clone().close().await;
    let forged = Trail::new();
    forged.record("mallory").await.unwrap();
    forged.audit.clone().close().await;
    let file = lookups(&honest).remove(0);
    fs::copy(forged.files().remove(0), file).unwrap();
    assert_eq!(honest.verify().fault, None);
    let fault = key.check(&honest).fault.unwrap();
    assert_eq!((fault.seq, fault.kind), (2, FaultKind::Forged));
}

/// The end of a file is signed when it is left, whatever the minute.
#[tokio::test]
async fn each_file_that_is_finished_is_signed_and_its_last_record_cannot_be_taken_away() {
    let key = Key::new();
    let trail = key.trail(|config| config.rotate_size = Size::kibibytes(64));
    // The clock stands: no minute comes round.
    for _ in 0..300 {
        trail.record("many").await.unwrap();
    }
    let files = lookups(&trail);
    assert!(files.len() >= 3, "{files:?}");
    let finished = u64::try_from(files.len() - 1).unwrap();
    trail.until(|| key.check(&trail).heads == finished).await;
    trail
        .until(|| trail.metrics.rotations.get() == finished)
        .await;
    let last_of_first = number(&files[1]) - 1;
    // Every file after the first disappears, and the last line of the first.
    for file in &files[1..] {
        fs::remove_file(file).unwrap();
    }
    cut_last_line(&files[0]);
    assert_eq!(trail.verify().fault, None);
    let fault = key.check(&trail).fault.unwrap();
    assert_eq!(
        (fault.seq, fault.kind),
        (last_of_first, FaultKind::EndMissing)
    );
}

#[tokio::test]
async fn the_last_record_of_a_day_is_signed_when_the_next_day_begins() {
    let key = Key::new();
    // With `always` the record is written before the background task, whose minute has come, orders a head.
    let trail = key.trail(|config| config.sync = Sync::Always);
    trail.record("today").await.unwrap();
    trail.manual_clock.advance(Duration::from_hours(22));
    trail.record("tomorrow").await.unwrap();
    let files = lookups(&trail);
    assert_eq!(files.len(), 2);
    let heads = files[0].to_str().unwrap().replace("lookups-", "heads-");
    let is_signed = || fs::read_to_string(&heads).is_ok_and(|text| text.ends_with('\n'));
    trail.until(is_signed).await;
    fs::remove_file(&files[1]).unwrap();
    cut_last_line(&files[0]);
    let fault = key.check(&trail).fault.unwrap();
    assert_eq!((fault.seq, fault.kind), (2, FaultKind::EndMissing));
    let text = fs::read_to_string(&heads).unwrap();
    assert!(
        text.lines().count() == 1 && text.contains("\"seq\":2,"),
        "{text}"
    );
}

#[tokio::test]
async fn a_file_that_an_operator_renames_is_signed_when_it_is_left() {
    let key = Key::new();
    let trail = key.trail(|_| ());
    trail.record("before").await.unwrap();
    trail.audit.reopen();
    trail.until(|| key.check(&trail).heads == 1).await;
    assert_eq!(lookups(&trail).len(), 2);
}

/// Row T8: a start that reads all heads takes longer each day; here it would never end.
#[tokio::test]
async fn a_start_reads_the_newest_heads_however_long_the_trail_is() {
    let key = Key::new();
    let trail = key.trail(|_| ());
    let old = "heads-20200101T000000Z-1.jsonl";
    let old = fs::File::create(trail.config.directory.join(old)).unwrap();
    old.set_len(4 << 40).unwrap();
    trail.record("signed").await.unwrap();
    trail.audit.clone().close().await;
    let missing = lookups(&trail).remove(0);
    fs::remove_file(missing).unwrap();
    trail.reopened().unwrap().close().await;
    // What the newest head knows of is missing, and is not given away a second time.
    assert!(number(&lookups(&trail)[0]) > 2);
}

#[tokio::test]
async fn a_key_that_follows_another_is_on_record_and_both_prove_the_trail() {
    let (old, new) = (Key::new(), Key::with("fedcba9876543210fedcba9876543210"));
    let mut trail = old.trail(|_| ());
    trail.record("one").await.unwrap();
    trail.config.head_key_file = Some(new.path());
    let trail = trail.restart().await;
    trail.record("two").await.unwrap();
    trail.audit.clone().close().await;
    let keys = [&old, &new].map(|key| HeadVerifier::read(&key.path()).unwrap());
    let [before, after] = keys.each_ref().map(|key| key.id().to_owned());
    let starts: Vec<_> = trail
        .lines()
        .into_iter()
        .filter(|it| it["action"] == "started")
        .collect();
    assert_eq!(starts[0]["head_key"], *before);
    assert_eq!(starts[0].get("head_key_before"), None);
    assert_eq!(starts[1]["head_key"], *after);
    assert_eq!(starts[1]["head_key_before"], *before);
    let report = verify(&trail.config.directory, 1, &keys).unwrap();
    assert_eq!((report.heads, report.fault), (2, None));
    // With one of them alone a part of the heads proves nothing, and it is said which key is missing.
    for (given, missing) in [(0, &after), (1, &before)] {
        let report = verify(&trail.config.directory, 1, &keys[given..=given]).unwrap();
        assert_eq!(report.fault.unwrap().kind, FaultKind::HeadUnsigned);
        assert_eq!(report.unknown_keys, std::slice::from_ref(missing));
    }
}

/// A secret that signs heads, in a file.
pub(super) struct Key(TempDir);

impl Key {
    pub(super) fn new() -> Self {
        Self::with("0123456789abcdef0123456789abcdef")
    }

    fn with(secret: &str) -> Self {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("secret");
        fs::write(&path, secret).unwrap();
        keep_private(&path);
        Self(place)
    }

    pub(super) fn path(&self) -> PathBuf {
        self.0.path().join("secret")
    }

    fn trail(&self, change: impl FnOnce(&mut Config)) -> Trail {
        Trail::with(|config| {
            config.head_key_file = Some(self.path());
            change(config);
        })
    }

    fn check(&self, trail: &Trail) -> VerifyReport {
        let key = HeadVerifier::read(&self.path()).unwrap();
        verify(&trail.config.directory, 1, std::slice::from_ref(&key)).unwrap()
    }
}

fn lookups(trail: &Trail) -> Vec<PathBuf> {
    let mut files = trail.files();
    files.retain(|path| is_lookups(path));
    files
}

fn cut_last_line(file: &Path) {
    let text = fs::read_to_string(file).unwrap();
    let lines = text.lines().count();
    let left: String = text.split_inclusive('\n').take(lines - 1).collect();
    fs::write(file, left).unwrap();
}

fn keep_private(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn is_lookups(path: &Path) -> bool {
    path.file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .starts_with("lookups-")
}
