use proptest::prelude::*;

use super::*;

fn key(seed: u8) -> BlockKey {
    BlockKey([seed; 32])
}

fn expected(tokens: &[u32], payload_len: usize) -> Expected<'_> {
    Expected { key: key(1), tokens, payload_len }
}

fn encode(key: BlockKey, tokens: &[u32], payload: &[u8]) -> Vec<u8> {
    let mut block = begin(key, tokens, payload.len(), &Buffers::default());
    block.vec().extend_from_slice(payload);
    seal(&mut block);
    block.to_vec()
}

fn decode(block: &[u8], expected: &Expected) -> Result<Vec<u8>, DamagedBlock> {
    super::decode(&Bytes::copy_from_slice(block), expected).map(Vec::from)
}

#[test]
fn a_block_is_read_as_it_was_written() {
    for (tokens, payload) in [(vec![], vec![]), (vec![7, u32::MAX], vec![1, 2, 3])] {
        let block = encode(key(1), &tokens, &payload);
        assert_eq!(Some(block.len()), encoded_len(tokens.len(), payload.len()));
        assert_eq!(decode(&block, &expected(&tokens, payload.len())), Ok(payload));
        assert_eq!(verify(&block, key(1)), Ok(()));
    }
}

/// Stored blocks outlive the program, so the layout may change only with the version.
#[test]
fn the_layout_is_that_of_version_2() {
    let block = encode(key(9), &[0x0102_0304, 5], &[0xaa, 0xbb, 0xcc]);
    let mut layout = b"colm-kv\0\x02\0\0\0".to_vec();
    layout.extend([9; 32]);
    layout.extend([2, 0, 0, 0, 4, 3, 2, 1, 5, 0, 0, 0]);
    layout.extend([3, 0, 0, 0, 0, 0, 0, 0, 0xaa, 0xbb, 0xcc]);
    assert_eq!(block[..layout.len()], layout);
    // From the reference implementation of XXH3-128.
    let checksum: u128 = 0xada7_6b38_3215_b0e7_d77e_db9d_fb96_5cba;
    assert_eq!(block[layout.len()..], checksum.to_le_bytes());
}

fn verify_file(block: &[u8], len: u64, key: BlockKey) -> (Result<(), DamagedBlock>, usize) {
    let mut rest = block;
    let result = super::verify_file(&mut rest, len, Path::new("file"), key);
    (result, block.len() - rest.len())
}

/// A sparse file can be very long.
#[test]
fn a_file_with_another_length_is_not_read_to_its_end() {
    let good = encode(key(1), &[1, 2, 3], &[4; 3_000_000]);
    let len = good.len() as u64;
    assert_eq!(verify_file(&good, len, key(1)), (Ok(()), good.len()));
    for other in [len - 1, len + 1, LONGEST as u64] {
        let (result, read) = verify_file(&good, other, key(1));
        assert!(result.is_err() && read < 1000, "{read} bytes of {other}");
    }
    let (result, read) = verify_file(&good, LONGEST as u64 + 1, key(1));
    assert_eq!(result, Err(DamagedBlock::Longer { expected: LONGEST as u64 }));
    assert!(read < 1000);
    // It became shorter meanwhile.
    let (result, _) = verify_file(&good[..2_000_000], len, key(1));
    assert!(matches!(result, Err(DamagedBlock::Unreadable { .. })), "{result:?}");
}

#[test]
fn the_error_says_what_is_wrong() {
    let tokens = [1, 2, 3];
    let good = encode(key(1), &tokens, &[4; 10]);
    let want = || expected(&tokens, 10);
    let len = good.len();

    let truncated = |found, expected| Err(DamagedBlock::Truncated { found, expected });
    assert_eq!(decode(&[], &want()), truncated(0, EMPTY_LEN as u64));
    assert_eq!(decode(&good[..len - 1], &want()), truncated(len - 1, len as u64));

    let longer = [&good[..], &[0]].concat();
    assert_eq!(decode(&longer, &want()), Err(DamagedBlock::Longer { expected: len as u64 }));
    assert_eq!(verify(&longer, key(1)), Err(DamagedBlock::Longer { expected: len as u64 }));

    let mut version = good.clone();
    version[8] = 1;
    assert_eq!(decode(&version, &want()), Err(DamagedBlock::Version { found: 1 }));

    // The blocks of other versions may have any length.
    version.push(0);
    assert_eq!(decode(&version, &want()), Err(DamagedBlock::Version { found: 1 }));
    assert_eq!(decode(&version[..20], &want()), Err(DamagedBlock::Version { found: 1 }));

    let mut magic = good.clone();
    magic[0] = b'C';
    assert_eq!(decode(&magic, &want()), Err(DamagedBlock::Magic));

    let mut payload = good.clone();
    payload[len - CHECKSUM_LEN - 1] ^= 1;
    assert_eq!(decode(&payload, &want()), Err(DamagedBlock::Checksum));

    let other_key = encode(key(2), &tokens, &[4; 10]);
    assert_eq!(decode(&other_key, &want()), Err(DamagedBlock::Key { found: key(2) }));
    assert_eq!(verify(&other_key, key(1)), Err(DamagedBlock::Key { found: key(2) }));

    let other_tokens = encode(key(1), &[1, 2, 4], &[4; 10]);
    assert_eq!(decode(&other_tokens, &want()), Err(DamagedBlock::Tokens));

    let shorter = encode(key(1), &tokens, &[4; 9]);
    assert_eq!(
        decode(&shorter, &want()),
        Err(DamagedBlock::PayloadLength { found: 9, expected: 10 })
    );
}

/// A damaged length must not be used to reserve memory or to slice.
#[test]
fn enormous_lengths_are_refused() {
    let mut block = encode(key(1), &[], &[4; 10]);
    block[HEADER_LEN - 4..HEADER_LEN].fill(0xff);
    assert!(matches!(verify(&block, key(1)), Err(DamagedBlock::Truncated { .. })));
    let mut block = encode(key(1), &[], &[4; 10]);
    block[HEADER_LEN..HEADER_LEN + 8].fill(0xff);
    let error = verify(&block, key(1));
    assert_eq!(error, Err(DamagedBlock::Truncated { found: block.len(), expected: u64::MAX }));
    assert_eq!(encoded_len(usize::MAX, 1), None);
    assert_eq!(encoded_len(1, LONGEST), None);
}

fn contents() -> impl Strategy<Value = (Vec<u32>, Vec<u8>)> {
    (prop::collection::vec(any::<u32>(), 0..40), prop::collection::vec(any::<u8>(), 0..300))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_flipped_bit_is_accepted((tokens, payload) in contents(), at in any::<prop::sample::Index>()) {
        let mut block = encode(key(1), &tokens, &payload);
        let bit = at.index(8 * block.len());
        block[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(decode(&block, &expected(&tokens, payload.len())).is_err());
        prop_assert!(verify(&block, key(1)).is_err());
        prop_assert_eq!(verify_file(&block, block.len() as u64, key(1)).0, verify(&block, key(1)));
    }

    #[test]
    fn no_cut_block_is_accepted((tokens, payload) in contents(), at in any::<prop::sample::Index>()) {
        let block = encode(key(1), &tokens, &payload);
        let cut = &block[..at.index(block.len())];
        prop_assert!(decode(cut, &expected(&tokens, payload.len())).is_err());
        prop_assert!(verify(cut, key(1)).is_err());
        prop_assert_eq!(verify_file(cut, cut.len() as u64, key(1)).0, verify(cut, key(1)));
    }

    #[test]
    fn no_longer_block_is_accepted(
        (tokens, payload) in contents(),
        more in prop::collection::vec(any::<u8>(), 1..100),
    ) {
        let block = [encode(key(1), &tokens, &payload), more].concat();
        prop_assert!(decode(&block, &expected(&tokens, payload.len())).is_err());
        prop_assert!(verify(&block, key(1)).is_err());
    }
}
