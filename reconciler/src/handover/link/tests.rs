//! What is said over a link and heard, whole, torn and hostile.

use super::*;

#[test]
fn what_is_said_is_heard_and_both_know_the_same_sum() {
    let mut wire = Vec::new();
    let mut ours = Link::new(std::io::empty(), &mut wire, "the other");
    ours.say(&Message::Begin { id: "x".into() }).unwrap();
    ours.data(7, b"piece").unwrap();
    let sum = ours.sum(true);
    let mut theirs = Link::new(&wire[..], std::io::sink(), "the one");
    assert_eq!(theirs.hear().unwrap(), Message::Begin { id: "x".into() });
    let Some(Frame::Data(7, bytes)) = theirs.frame().unwrap() else { panic!("no data") };
    assert_eq!(bytes, b"piece");
    assert_eq!(theirs.sum(false), sum);
    assert!(theirs.frame().unwrap().is_none());
}

#[test]
fn what_goes_compressed_is_heard_as_it_was_said() {
    let mut wire = Vec::new();
    let course = Arc::new(Course::new(None).unwrap());
    let mut ours = Link::new(std::io::empty(), &mut wire, "the other").on(course);
    let begin = |id: &str| Message::Begin { id: id.to_owned() };
    ours.compress(true).unwrap();
    ours.put(&begin("x")).unwrap();
    let text = "one after the other ".repeat(10_000);
    (0..20).for_each(|at| ours.data(at, text.as_bytes()).unwrap());
    ours.compress(false).unwrap();
    ours.data(20, b"as it is").unwrap();
    ours.compress(true).unwrap();
    ours.say(&begin("y")).unwrap();
    let (sum, bytes, gone) = (ours.sum(true), ours.bytes(), ours.wire());
    drop(ours);
    assert_eq!(gone, wire.len() as u64);
    assert!(bytes > 4_000_000 && gone < 100_000, "{bytes} {gone}");
    let mut theirs = Link::new(&wire[..], std::io::sink(), "the one");
    assert_eq!(theirs.hear().unwrap(), begin("x"));
    for place in 0..=20 {
        let Some(Frame::Data(at, bytes)) = theirs.frame().unwrap() else { panic!("no data") };
        let said = if place < 20 { text.as_bytes() } else { b"as it is" };
        assert!(at == place && bytes == said);
    }
    assert_eq!(theirs.hear().unwrap(), begin("y"));
    assert_eq!(theirs.sum(false), sum);
    assert!(theirs.frame().unwrap().is_none());
    let mut cut = Link::new(&wire[..wire.len() / 2], std::io::sink(), "the one");
    assert!(std::iter::from_fn(|| cut.frame().unwrap()).count() < 22);
}

#[test]
fn a_batch_that_is_none_is_refused() {
    let batch = |frames: &[u8]| {
        let packed = zstd::bulk::compress(frames, 1).unwrap();
        [&[PACKED][..], &u32::try_from(packed.len()).unwrap().to_be_bytes(), &packed].concat()
    };
    let bomb = batch(&vec![0; 64 << 20]);
    assert!(bomb.len() < 10_000);
    for (bytes, why) in [
        (bomb, "a batch that is none"),
        (batch(b""), "not whole"),
        (batch(&[b'd', 0, 0, 0, 9, 0]), "not whole"),
        (batch(&batch(b"within another")), "not whole"),
        (vec![PACKED, 0, 0, 0, 1, 0], "a batch that is none"),
    ] {
        let mut link = Link::new(&bytes[..], std::io::sink(), "it");
        let refused = link.frame().unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
}

#[test]
fn nonsense_is_refused() {
    for bytes in [&b"Warning: no such host\n"[..], &[b'm', 0, 0, 0, 2, b'{', b'}'], &[b'd', 0, 0, 0, 1, 0]] {
        let mut link = Link::new(bytes, std::io::sink(), "it");
        assert!(link.frame().is_err(), "{bytes:?}");
    }
    let mut cut = Link::new(&[b'm', 0, 0, 0, 9, b'{'][..], std::io::sink(), "it");
    assert!(cut.frame().unwrap().is_none());
    assert!(cut.hear().unwrap_err().to_string().contains("the link is cut"));
}
