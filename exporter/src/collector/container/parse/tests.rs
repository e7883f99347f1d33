//! Each parser on the text of a kernel, and on anything.

use proptest::prelude::*;

use super::*;

fn read(parse: fn(&[u8], &mut Reading) -> Parsed, content: &str) -> Result<Figures, Malformed> {
    let mut reading = Reading { figures: Figures::default(), io: Devices::new() };
    parse(content.as_bytes(), &mut reading).map(|()| reading.figures)
}

fn counts(parse: fn(&[u8], &mut Reading) -> Parsed, content: &str) -> Result<Vec<[Option<u64>; 4]>, Malformed> {
    let mut reading = Reading { figures: Figures::default(), io: Devices::new() };
    parse(content.as_bytes(), &mut reading)?;
    Ok(reading.io.iter().map(|io| io.counts).collect())
}

const fn decimal(digits: u64, places: u32) -> Option<Number> {
    Some(Number::Decimal { digits, places })
}

#[test]
fn version_1_has_a_file_for_each_figure() {
    assert_eq!(read(cpuacct_usage, "42285123\n").unwrap().cpu_usage, decimal(42_285_123, 9));
    let split = read(cpuacct_stat, "user 7\nsystem 2\n").unwrap();
    assert_eq!((split.cpu_user, split.cpu_system), (decimal(7, 2), decimal(2, 2)));
    let throttled = read(cpu_stat, "nr_periods 10\nnr_throttled 4\nthrottled_time 2500000000\nwait_sum 1\n").unwrap();
    assert_eq!((throttled.periods, throttled.throttled_periods), (Some(10), Some(4)));
    assert_eq!((throttled.throttled, throttled.cpu_usage), (decimal(2_500_000_000, 9), None));
    assert_eq!(read(cfs_quota, "50000\n").unwrap().quota, Some(50_000));
    assert_eq!(read(cfs_quota, "-1\n").unwrap().quota, None);
    assert_eq!(read(cfs_period, "100000\n").unwrap().period, Some(100_000));
    assert_eq!(read(cpu_shares, "1024\n").unwrap().shares, Some(1024));
    assert_eq!(read(memory_failures, "3\n").unwrap().memory_failures, Some(3));
    let memory =
        "cache 1\nrss 2\ninactive_file 3\ntotal_cache 40\ntotal_rss 50\ntotal_inactive_file 30\ntotal_swap 9\n";
    let memory = read(memory_stat_v1, memory).unwrap();
    assert_eq!((memory.cache, memory.rss, memory.inactive_file, memory.swap), (Some(40), Some(50), Some(30), Some(9)));
}

#[test]
fn version_2_has_them_together() {
    let content = "usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\nnice_usec 0\nnr_periods 3\nnr_throttled 1\n\
                   throttled_usec 20000\nnr_bursts 0\nburst_usec 0\n";
    let cpu = read(cpu_stat, content).unwrap();
    let times = (cpu.cpu_usage, cpu.cpu_user, cpu.cpu_system, cpu.throttled);
    assert_eq!(times, (decimal(1_500_000, 6), decimal(1_000_000, 6), decimal(500_000, 6), decimal(20_000, 6)));
    assert_eq!((cpu.periods, cpu.throttled_periods), (Some(3), Some(1)));
    let limits = read(cpu_max, "50000 100000\n").unwrap();
    assert_eq!((limits.quota, limits.period), (Some(50_000), Some(100_000)));
    let none = read(cpu_max, "max 100000\n").unwrap();
    assert_eq!((none.quota, none.period), (None, Some(100_000)));
    for (weight, shares) in [("1\n", 2), ("100\n", 2597), ("10000\n", 262_144)] {
        assert_eq!(read(cpu_weight, weight).unwrap().shares, Some(shares));
    }
    let memory = read(memory_stat_v2, "anon 50\nfile 40\nkernel 8\ninactive_file 30\nactive_file 10\n").unwrap();
    assert_eq!((memory.cache, memory.rss, memory.inactive_file), (Some(40), Some(50), Some(30)));
    assert_eq!(read(memory_swap, "4096\n").unwrap().swap, Some(4096));
    let waits = "some avg10=0.00 avg60=0.00 avg300=0.00 total=5\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=2\n";
    assert_eq!(read(memory_pressure, waits).unwrap().pressure[1], [Some(5), Some(2)]);
    let old = "some avg10=1.50 avg60=0.00 avg300=0.00 total=7\n";
    assert_eq!(read(cpu_pressure, old).unwrap().pressure[0], [Some(7), None]);
    assert_eq!(read(io_pressure, waits).unwrap().pressure, [[None; 2], [None; 2], [Some(5), Some(2)]]);
}

#[test]
fn a_limit_that_is_none_is_0_and_a_working_set_is_never_negative() {
    for (content, limit) in [("67108864\n", 67_108_864), ("9223372036854771712\n", 0), ("max\n", 0)] {
        assert_eq!(read(memory_limit, content).unwrap().memory_limit, Some(limit), "{content}");
    }
    let figures = |memory_usage, inactive_file| Figures { memory_usage, inactive_file, ..Figures::default() };
    assert_eq!(figures(Some(100), Some(30)).working_set(), Some(70));
    assert_eq!(figures(Some(20), Some(30)).working_set(), Some(0));
    assert_eq!(figures(None, Some(30)).working_set(), None);
    assert_eq!(figures(Some(20), None).working_set(), None);
}

#[test]
fn input_and_output_are_counted_by_device() {
    let bytes =
        "254:0 Read 4096\n254:0 Write 8192\n254:0 Sync 0\n254:0 Total 12288\n7:1 Read 1\n7:1 Write 0\nTotal 12289\n";
    let expected = [[Some(4096), Some(8192), None, None], [Some(1), Some(0), None, None]];
    assert_eq!(counts(blkio_bytes, bytes).unwrap(), expected);
    assert_eq!(counts(blkio_operations, "254:0 Read 2\nTotal 2\n").unwrap(), [[None, None, Some(2), None]]);
    assert_eq!(counts(blkio_bytes, "Total 0\n").unwrap(), [] as [[Option<u64>; 4]; 0]);
    let stat = "254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0 cost.usage=9\n7:0\n";
    assert_eq!(counts(io_stat, stat).unwrap(), [[Some(1), Some(2), Some(3), Some(4)]]);
}

#[test]
fn processes_and_their_start_are_read() {
    assert_eq!(first_processes(b"0\n4711\n4712\n4713\n", 2).collect::<Vec<_>>(), [4711, 4712]);
    assert_eq!(first_processes(b"", 2).count(), 0);
    let stat = b"4711 (a) b (c) S 1 4711 4711 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 123456 1024 1\n";
    assert_eq!(start_ticks(stat), Some(123_456));
    assert_eq!(start_ticks(b"4711 (a) S 1"), None);
}

#[test]
fn anything_else_is_an_error() {
    for (parse, content) in [
        (cpuacct_usage as fn(&[u8], &mut Reading) -> Parsed, ""),
        (cpuacct_usage, "x\n"),
        (cpuacct_stat, ""),
        (cpu_max, "max\n"),
        (cpu_max, "1 x\n"),
        (cpu_weight, "0\n"),
        (cpu_weight, "10001\n"),
        (memory_limit, "lots\n"),
        (memory_usage, "-1\n"),
        (io_stat, "sda rbytes=1\n"),
        (io_stat, "8:0 rbytes=x\n"),
        (blkio_bytes, "sda Read 1\n"),
        (blkio_bytes, "8:0 Read x\n"),
        (cpu_pressure, "some avg10=0\n"),
    ] {
        assert!(read(parse, content).is_err(), "{content:?}");
    }
}

proptest! {
    #[test]
    fn any_content_is_read_or_refused(content: Vec<u8>, text in "(some|full|[0-9]:[0-9]|[a-z_]{1,9})( [0-9a-zR=]{0,9}){0,4}\n") {
        for content in [&*content, text.as_bytes()] {
            for parse in [cpuacct_usage, cpuacct_stat, cpu_stat, cpu_max, cpu_weight, cfs_quota, memory_stat_v1, memory_stat_v2,
                          memory_limit, blkio_bytes, blkio_operations, io_stat, cpu_pressure] {
                let mut reading = Reading { figures: Figures::default(), io: Devices::new() };
                let _ = parse(content, &mut reading);
            }
            let _ = (start_ticks(content), first_processes(content, 9).count());
        }
    }
}
