//! The journal of `sitegate-fenced`: whatever lies on the disk is read as what was written, as torn, or as corrupt.

use sitegate_fence::journal::{Loaded, parse};

/// Where cuts are tried: each of a short journal, a sample of a long one.
const CUTS: usize = 64;

/// A good journal stays one wherever it is cut, and then tells nothing that it did not tell before.
pub fn run(input: &[u8]) {
    let whole = parse(input);
    assert!(!whole.missing);
    if whole.corrupt.is_some() || whole.torn {
        return;
    }
    let Some(heading) = input.iter().position(|byte| *byte == b'\n') else { return };
    for cut in (heading + 1..input.len()).step_by(input.len() / CUTS + 1) {
        let part = parse(&input[..cut]);
        assert!(part.corrupt.is_none(), "cut after {cut} bytes: {:?}", part.corrupt);
        assert!(part.torn || input[cut - 1] == b'\n', "cut after {cut} bytes, and nobody notices");
        assert!(newest_tokens(&part).all(|(name, _)| whole.records.contains_key(name)));
    }
}

fn newest_tokens(loaded: &Loaded) -> impl Iterator<Item = (&sitegate_fence_client::wire::Name, Option<u64>)> {
    loaded.records.iter().map(|(name, record)| (name, record.open))
}

/// Journals as the daemon writes them.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let header = "sitegate-fenced journal 2 0b4e2d0a-boot\n";
    // The daemon's own checksums, of the lines below.
    let empty = "7f9c8a3e []\n";
    let batch = |json: &str| format!("{:08x} {json}\n", crc32(json.as_bytes()));
    let open = batch(r#"[{"resource":"db","open":7,"boot":"0b4e2d0a-boot","receipt":null}]"#);
    let closed = batch(
        r#"[{"resource":"db","open":null,"receipt":{"resource":"db","token":7,"reason":"deadline","level":1,"proof":{"what":"killed","unix_ms":1},"began":{"boot_ns":1,"raw_ns":2},"ended":{"boot_ns":3,"raw_ns":4}}}]"#,
    );
    let two = batch(
        r#"[{"resource":"db","open":8,"boot":"b","receipt":null},{"resource":"web","open":null,"receipt":null}]"#,
    );
    vec![
        ("header".into(), header.into()),
        ("armed".into(), [header, &open].concat().into()),
        ("fenced".into(), [header, &open, &closed].concat().into()),
        ("two".into(), [header, &batch("[]"), &two, &closed].concat().into()),
        ("torn".into(), [header, &open, &closed[..20]].concat().into()),
        ("corrupt".into(), [header, empty, &open].concat().into()),
    ]
}

/// CRC-32 of IEEE 802.3, bit by bit: seeds need it, and nobody else outside of the journal.
fn crc32(bytes: &[u8]) -> u32 {
    let shift = |crc: u32| if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| shift(crc)))
}
