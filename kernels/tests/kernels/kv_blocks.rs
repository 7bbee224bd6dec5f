//! Writes to the KV cache.

use candle_core::{DType, Device, Result, Tensor};
use colm_kernels::{rope_and_write, KvBlocks, NewKeysValues, NewRows, Rope, Slots};

const BLOCKS: usize = 3;
const HEADS: usize = 4;
const HEAD_DIM: usize = 8;
const BLOCK_SIZE: usize = 5;

/// The host's two tensors, filled with -1, and the view of them.
fn cache(dtype: DType) -> Result<(Tensor, Tensor, KvBlocks)> {
    let filled = |dims: &[usize]| Tensor::full(-1f32, dims, &Device::Cpu)?.to_dtype(dtype);
    let keys = filled(&[BLOCKS, HEADS, HEAD_DIM / 2, BLOCK_SIZE, 2])?;
    let values = filled(&[BLOCKS, HEADS, HEAD_DIM, BLOCK_SIZE])?;
    let kv = KvBlocks::from_tensors(&keys, &values, HEAD_DIM)?;
    Ok((keys, values, kv))
}

/// `[rows, heads, HEAD_DIM]` of consecutive numbers from `first` on.
fn counting(first: usize, rows: usize, heads: usize) -> Result<Tensor> {
    let numbers: Vec<f32> = (first..first + rows * heads * HEAD_DIM).map(|n| n as f32).collect();
    Tensor::from_vec(numbers, (rows, heads, HEAD_DIM), &Device::Cpu)
}

/// The key of a slot and head in the host's tensor. In a block of up to 32 positions all of them are interleaved, so
/// the layout is [blocks, kv_heads, head_dim, block_size].
fn key(host: &Tensor, slot: usize, head: usize) -> Result<Vec<f32>> {
    let tiles = host.reshape((BLOCKS, HEADS, HEAD_DIM, BLOCK_SIZE))?.to_dtype(DType::F32)?;
    tiles
        .get(slot / BLOCK_SIZE)?
        .get(head)?
        .narrow(1, slot % BLOCK_SIZE, 1)?
        .flatten_all()?
        .to_vec1()
}

/// The value of a slot and head in the host's tensor. A head of up to 32 numbers is one panel, so the layout is
/// [blocks, kv_heads, block_size, head_dim].
fn value(host: &Tensor, slot: usize, head: usize) -> Result<Vec<f32>> {
    let tiles = host.reshape((BLOCKS, HEADS, BLOCK_SIZE, HEAD_DIM))?.to_dtype(DType::F32)?;
    tiles.get(slot / BLOCK_SIZE)?.get(head)?.get(slot % BLOCK_SIZE)?.to_vec1()
}

#[test]
fn rows_are_written_to_their_slots_and_heads_only() -> Result<()> {
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        let (keys, values, kv) = cache(dtype)?;
        let slots = [14, -1, 3, 7];
        let new_keys = counting(0, 4, 2)?;
        let new_values = counting(100, 4, 2)?;
        kv.write(1..3, &new_keys, &new_values, &Slots::new(slots.to_vec()))?;
        for slot in 0..BLOCKS * BLOCK_SIZE {
            for head in 0..HEADS {
                let written = slots.iter().position(|&s| s == slot as i64);
                let source = written.filter(|_| (1..3).contains(&head));
                let found = [
                    (key(&keys, slot, head)?, &new_keys),
                    (value(&values, slot, head)?, &new_values),
                ];
                for (found, new) in found {
                    let expected = match source {
                        Some(row) => new.get(row)?.get(head - 1)?.to_vec1()?,
                        None => vec![-1.0; HEAD_DIM],
                    };
                    assert_eq!(found, expected, "slot {slot}, head {head}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn rows_may_be_strided_views_and_of_another_dtype() -> Result<()> {
    let (keys, values, kv) = cache(DType::F32)?;
    let wide = counting(0, 2, 6)?;
    let new_keys = wide.narrow(1, 1, 2)?;
    let new_values = wide.narrow(1, 4, 2)?.to_dtype(DType::BF16)?;
    kv.write(2..4, &new_keys, &new_values, &Slots::new(vec![6, 0]))?;
    assert_eq!(key(&keys, 6, 3)?, wide.get(0)?.get(2)?.to_vec1::<f32>()?);
    assert_eq!(value(&values, 0, 2)?, wide.get(1)?.get(4)?.to_vec1::<f32>()?);
    Ok(())
}

#[test]
fn rope_is_applied_to_written_keys() -> Result<()> {
    let (keys, values, kv) = cache(DType::F32)?;
    let rope = Rope::new(HEAD_DIM, 1e4, 100, None)?;
    let (new_keys, new_values, positions) = (counting(0, 2, 2)?, counting(50, 2, 2)?, [99, 7]);
    let slots = Slots::new(vec![4, 11]);
    let write = |positions: &[usize]| {
        kv.write_with_rope(1..3, &new_keys, &new_values, &slots, &rope, positions)
    };
    write(&positions)?;
    let rotated = rope.apply(&new_keys, &positions)?;
    for (row, slot) in [4, 11].into_iter().enumerate() {
        for head in 0..2 {
            let expected = |x: &Tensor| x.get(row)?.get(head)?.to_vec1::<f32>();
            assert_eq!(key(&keys, slot, 1 + head)?, expected(&rotated)?);
            assert_eq!(value(&values, slot, 1 + head)?, expected(&new_values)?);
        }
    }
    let beyond = write(&[100, 7]).unwrap_err().to_string();
    assert!(beyond.contains("position 100"), "{beyond}");
    Ok(())
}

/// The queries of both chains, and the keys and values of the first, which alone owns some.
#[test]
fn queries_and_keys_of_all_chains_are_rotated_together() -> Result<()> {
    let (keys, values, kv) = cache(DType::F32)?;
    let rope = Rope::new(HEAD_DIM, 1e4, 100, None)?;
    let (q, later_q) = (counting(7, 2, 3)?, counting(30, 1, 1)?);
    let (new_keys, new_values, slots) = (counting(0, 2, 2)?, counting(50, 2, 2)?, [4, 11]);
    let new_slots = Slots::new(slots.to_vec());
    let keys_values =
        NewKeysValues { keys: &new_keys, values: &new_values, heads: 1..3, slots: &new_slots };
    let chains = |position| {
        [
            NewRows { q: &q, positions: &[99, 7], keys_values: Some(keys_values.clone()) },
            NewRows { q: &later_q, positions: position, keys_values: None },
        ]
    };
    let numbers = |x: &Tensor| x.flatten_all()?.to_vec1::<f32>();
    let rotated = rope_and_write(&chains(&[7]), &rope, &kv)?;
    assert_eq!(numbers(&rotated[0])?, numbers(&rope.apply(&q, &[99, 7])?)?);
    assert_eq!(numbers(&rotated[1])?, numbers(&rope.apply(&later_q, &[7])?)?);
    let rotated_keys = rope.apply(&new_keys, &[99, 7])?;
    for (row, slot) in slots.into_iter().enumerate() {
        let expected = |x: &Tensor| x.get(row)?.get(1)?.to_vec1::<f32>();
        assert_eq!(key(&keys, slot as usize, 2)?, expected(&rotated_keys)?);
        assert_eq!(value(&values, slot as usize, 2)?, expected(&new_values)?);
    }
    let error = rope_and_write(&chains(&[100]), &rope, &kv).unwrap_err().to_string();
    assert!(error.contains("chain 2") && error.contains("position 100"), "{error}");
    Ok(())
}

#[test]
fn a_failed_write_changes_nothing() -> Result<()> {
    let (keys, values, kv) = cache(DType::F32)?;
    let rows = counting(0, 2, 2)?;
    let slots = Slots::new(vec![0, 1]);
    let failures = [
        (kv.write(0..2, &rows, &rows, &Slots::new(vec![0, 15])), "row 1 has slot 15"),
        (kv.write(0..2, &rows, &rows, &Slots::new(vec![0])), "at 1 slots"),
        (kv.write(0..3, &rows, &rows, &slots), "[2, 3, 8]"),
        (kv.write(3..5, &rows, &rows, &slots), "3..5 are not within the cache's 0..4"),
        (kv.write(0..2, &rows, &rows.narrow(2, 0, 4)?, &slots), "values must be"),
    ];
    for (result, reason) in failures {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    for host in [keys, values] {
        assert!(crate::reference::numbers(&host)?.iter().all(|&number| number == -1.0));
    }
    Ok(())
}

/// The host groups the numbers of a key, and so allocates heads of a multiple of the group.
#[test]
fn heads_may_be_smaller_than_those_of_the_hosts_tensors() -> Result<()> {
    let (keys, values, _) = cache(DType::F32)?;
    let kv = KvBlocks::from_tensors(&keys, &values, 6)?;
    let slots: Vec<i64> = (0..(BLOCKS * BLOCK_SIZE) as i64).collect();
    let rows = slots.len();
    let new = |first: usize| {
        let numbers = (first..first + rows * HEADS * 6).map(|n| n as f32).collect::<Vec<_>>();
        Tensor::from_vec(numbers, (rows, HEADS, 6), &Device::Cpu)
    };
    kv.write(0..HEADS, &new(0)?, &new(10_000)?, &Slots::new(slots))?;
    for (host, first) in [(&keys, 0), (&values, 10_000)] {
        let mut numbers = host.flatten_all()?.to_vec1::<f32>()?;
        let rest = numbers.split_off(rows * HEADS * 6);
        numbers.sort_by(f32::total_cmp);
        let expected: Vec<f32> = (first..first + numbers.len()).map(|n| n as f32).collect();
        assert_eq!(numbers, expected, "every number is in the cache once");
        assert!(rest.iter().all(|&number| number == -1.0), "the rest is not used");
    }
    Ok(())
}

#[test]
fn host_tensors_of_other_shapes_are_errors() -> Result<()> {
    let new = |dims: &[usize], dtype| Tensor::zeros(dims, dtype, &Device::Cpu);
    let f32 = DType::F32;
    let keys = new(&[3, 4, 2, 5, 4], f32)?;
    let values = new(&[3, 4, 8, 5], f32)?;
    let cases = [
        (keys.clone(), values.clone(), 16, "head_dim 16"),
        (keys.clone(), new(&[3, 4, 8], f32)?, 8, "value blocks must be"),
        (new(&[3, 4, 3, 5, 4], f32)?, values.clone(), 8, "key blocks must be"),
        (new(&[3, 4, 1, 5, 4], f32)?, values.clone(), 6, "key blocks must be"),
        (new(&[2, 4, 2, 5, 4], f32)?, values.clone(), 8, "key blocks must be"),
        (keys.clone(), new(&[3, 4, 5, 8], f32)?.transpose(2, 3)?, 8, "contiguous"),
        (keys.clone(), values.to_dtype(DType::F16)?, 8, "key blocks are F32, value blocks F16"),
        (new(&[3, 4, 2, 5, 4], DType::U8)?, new(&[3, 4, 8, 5], DType::U8)?, 8, "not U8"),
    ];
    for (keys, values, head_dim, reason) in cases {
        let error = KvBlocks::from_tensors(&keys, &values, head_dim).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    Ok(())
}

#[test]
fn slots_and_tables_are_read_in_the_hosts_form() -> Result<()> {
    let slots = Tensor::new(&[[4i64, 5], [9, -1]], &Device::Cpu)?;
    assert_eq!(Slots::from_tensor(&slots)?.as_slice(), [4, 5, 9, -1]);
    assert!(Slots::from_tensor(&slots.to_dtype(DType::U32)?).is_err());
    let tables = Tensor::new(&[[4u32, 5], [9, 0]], &Device::Cpu)?;
    let read = colm_kernels::BlockTables::from_tensor(&tables)?;
    assert_eq!(
        (read.sequence_count(), read.blocks(1), read.blocks(2)),
        (2, Some(&[9, 0][..]), None)
    );
    assert!(colm_kernels::BlockTables::from_tensor(&slots).is_err());
    Ok(())
}
