//! The collector on trees of files that are laid out as the kernel does. Version 2 is tested like this alone where the
//! machine has version 1.

use cloudpulse_common::exposition::Format;

use super::super::testing::Fixture;
use super::*;
use crate::host::Roots;

const ID: &str = "4d5e6f00112233445566778899aabbccddeeff00112233445566778899aabbcc";
const OTHER: &str = "77886f00112233445566778899aabbccddeeff00112233445566778899aabbcc";
const DEV: &str = "\n\n    lo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n  eth0: 100 2 3 4 0 0 0 0 200 5 6 7 0 0 0 0\n";

fn filters() -> Filters {
    let containers = Options { socket: Some("".into()), ..Options::default() };
    Filters { containers, ..Filters::default() }
}

fn fixture(files: &[(String, &str)]) -> Fixture {
    let files: Vec<(&str, &str)> = files.iter().map(|(path, content)| (path.as_str(), *content)).collect();
    Fixture::with_filters(&ENTRY, &files, &filters())
}

/// The process of a container, which started a second after the machine.
fn process(pid: u32) -> [(String, &'static str); 3] {
    [
        ("proc/stat".to_owned(), "cpu  1\nbtime 1700000000\n"),
        (format!("proc/{pid}/stat"), "1 (x) S 1 1 1 0 -1 0 1 0 0 0 0 0 0 0 20 0 1 0 100 1 1\n"),
        (format!("proc/{pid}/net/dev"), DEV),
    ]
}

fn version_2(path: &str, pid: &'static str) -> Vec<(String, &'static str)> {
    let file = |name: &str| format!("sys/fs/cgroup{path}/{name}");
    let mut files = vec![
        ("sys/fs/cgroup/cgroup.controllers".to_owned(), "cpu io memory pids\n"),
        (file("cgroup.procs"), pid),
        (file("cpu.stat"), "usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\n"),
        (file("memory.current"), "1000\n"),
        (file("memory.stat"), "anon 600\nfile 400\ninactive_file 300\n"),
    ];
    files.extend(process(pid.trim().parse().unwrap()));
    files
}

fn values<'s>(samples: &'s [String], name: &str) -> Vec<&'s str> {
    let of_name = samples.iter().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
    of_name.map(|line| line.rsplit_once("} ").unwrap().1).collect()
}

#[test]
fn version_1_is_read_from_a_folder_of_each_controller() {
    let path = format!("/docker/{ID}");
    let file = |controller: &str, name: &str| format!("sys/fs/cgroup/{controller}{path}/{name}");
    let mut files = vec![
        // One folder for both, as systemd mounts it, without the links that it adds.
        (file("cpu,cpuacct", "cpuacct.usage"), "2500000000\n"),
        (file("cpu,cpuacct", "cpu.shares"), "1024\n"),
        (file("cpu,cpuacct", "cgroup.procs"), "4711\n"),
        (file("memory", "memory.usage_in_bytes"), "1000\n"),
        (file("memory", "memory.stat"), "total_inactive_file 300\ntotal_rss 600\n"),
        (file("blkio", "blkio.throttle.io_service_bytes"), "254:0 Read 4096\n254:0 Write 1\nTotal 4097\n"),
    ];
    files.extend(process(4711));
    let mut fixture = fixture(&files);
    std::fs::create_dir_all(fixture.folder.path().join("sys/dev/block")).unwrap();
    std::os::unix::fs::symlink("../../devices/x/block/vda", fixture.folder.path().join("sys/dev/block/254:0")).unwrap();
    let samples = fixture.samples().unwrap();
    let id = format!("id=\"{path}\"");
    for sample in [
        format!("container_cpu_usage_seconds_total{{{id},cpu=\"total\"}} 2.5"),
        format!("container_memory_usage_bytes{{{id}}} 1000"),
        format!("container_memory_working_set_bytes{{{id}}} 700"),
        format!("container_memory_rss{{{id}}} 600"),
        format!("container_spec_cpu_shares{{{id}}} 1024"),
        format!("container_fs_reads_bytes_total{{{id},device=\"/dev/vda\"}} 4096"),
        format!("container_fs_writes_bytes_total{{{id},device=\"/dev/vda\"}} 1"),
        format!("container_network_receive_bytes_total{{{id},interface=\"eth0\"}} 100"),
        format!("container_network_receive_packets_dropped_total{{{id},interface=\"eth0\"}} 4"),
        format!("container_network_transmit_errors_total{{{id},interface=\"eth0\"}} 6"),
        format!("container_start_time_seconds{{{id}}} 1700000001"),
    ] {
        assert!(samples.contains(&sample), "{sample} in {samples:#?}");
    }
    // Missing is never zero: no cache, no limit, no reads; and lo is not shown.
    assert_eq!(samples.len(), 7 + 8 + 3, "{samples:#?}");
}

#[test]
fn a_container_that_comes_goes_or_is_started_anew_is_seen_at_the_next_scrape() {
    let path = format!("/system.slice/docker-{ID}.scope");
    let mut fixture = fixture(&version_2(&path, "4711\n"));
    assert_eq!(values(&fixture.samples().unwrap(), "container_memory_working_set_bytes"), ["700"]);

    let other = version_2(&format!("/docker/{OTHER}"), "4712\n");
    for (path, content) in &other {
        fixture.write(path, content);
    }
    assert_eq!(values(&fixture.samples().unwrap(), "container_cpu_usage_seconds_total"), ["1.5", "1.5"]);
    let folder = fixture.folder.path().join(format!("sys/fs/cgroup{path}"));
    std::fs::remove_dir_all(&folder).unwrap();
    let samples = fixture.samples().unwrap();
    assert_eq!(values(&samples, "container_cpu_usage_seconds_total"), ["1.5"]);
    assert!(samples.iter().all(|line| !line.contains(ID)), "{samples:#?}");
    std::fs::remove_dir_all(fixture.folder.path().join("sys/fs/cgroup/docker")).unwrap();
    assert_eq!(fixture.page().unwrap(), "");
}

#[test]
fn a_network_is_shown_once_and_that_of_the_machine_never() {
    let pod = "/kubepods/besteffort/pod0d6b";
    let mut files = version_2(&format!("{pod}/{ID}"), "4711\n");
    files.extend(version_2(&format!("{pod}/{OTHER}"), "4712\n"));
    files.push((
        "proc/4712/stat".to_owned(),
        "1 (later, but in the same second) S 1 1 1 0 -1 0 1 0 0 0 0 0 0 0 20 0 1 0 101 1 1\n",
    ));
    let mut fixture = fixture(&files);
    let dev = |pid: u32| fixture.folder.path().join(format!("proc/{pid}/net/dev"));
    std::fs::remove_file(dev(4711)).unwrap();
    std::fs::hard_link(dev(4712), dev(4711)).unwrap();
    let machine = dev(1);
    let shared = dev(4712);
    let samples = fixture.samples().unwrap();
    assert_eq!(values(&samples, "container_cpu_usage_seconds_total").len(), 2);
    assert_eq!(values(&samples, "container_network_receive_bytes_total"), ["100"]);
    let shown = samples.iter().find(|line| line.starts_with("container_network_receive_bytes_total")).unwrap();
    assert!(shown.contains(ID), "the one that was there first: {shown}");

    std::fs::create_dir_all(machine.parent().unwrap()).unwrap();
    std::fs::hard_link(shared, machine).unwrap();
    // Anything new has the networks looked at again.
    let third = version_2(&format!("/docker/{}", ID.replace('4', "5")), "4713\n");
    for (path, content) in &third {
        fixture.write(path, content);
    }
    let samples = fixture.samples().unwrap();
    assert_eq!(values(&samples, "container_network_receive_bytes_total").len(), 1, "{samples:#?}");
    assert!(samples.iter().filter(|line| line.starts_with("container_network")).all(|line| line.contains("/docker/")));
}

#[test]
fn containers_beyond_the_descriptors_are_read_too_and_hold_none() {
    let mut files = version_2(&format!("/docker/{ID}"), "4711\n");
    files.extend(version_2(&format!("/docker/{OTHER}"), "4712\n"));
    let machine = fixture(&files);
    let at = |name: &str| machine.folder.path().join(name);
    let roots = Roots { procfs: at("proc"), sysfs: at("sys"), rootfs: "/".into(), udev_data: at("udev") };
    let mut host = Host::new(roots);
    let mut page = |kept| {
        let mut collector = Containers::new(&mut host, &filters().containers);
        collector.kept = kept;
        let mut buffer = Vec::new();
        for _ in 0..2 {
            buffer.clear();
            host.begin_scrape();
            collector.collect(&mut host, &mut Page::new(&mut buffer, Format::Text)).unwrap();
        }
        let page = String::from_utf8(buffer).unwrap();
        let lines: Vec<String> = page.lines().filter(|l| !l.starts_with("container_last")).map(str::to_owned).collect();
        let held = collector.list.iter().flatten().filter(|container| container.process.is_some()).count();
        (lines, held)
    };
    let ((all, held), (none, held_none), (one, held_one)) = (page(2), page(0), page(1));
    assert_eq!((&all, &all), (&none, &one));
    assert_eq!((held, held_none, held_one), (2, 0, 1));
    assert_eq!((containers_to_keep(1024), containers_to_keep(0)), (34, 0));
}

#[test]
fn filters_choose_containers() {
    let mut files = version_2(&format!("/docker/{ID}"), "4711\n");
    files.extend(version_2(&format!("/machine.slice/libpod-{OTHER}.scope"), "4712\n"));
    let files: Vec<(&str, &str)> = files.iter().map(|(path, content)| (path.as_str(), *content)).collect();
    let mut filters = filters();
    filters.containers.ids.include = Some(regex_lite::Regex::new("^/docker/").unwrap());
    let samples = Fixture::with_filters(&ENTRY, &files, &filters).samples().unwrap();
    assert!(samples.iter().filter(|line| line.starts_with("container_")).all(|line| line.contains("/docker/")));
    assert_eq!(values(&samples, "container_cpu_usage_seconds_total").len(), 1);
}

#[test]
fn a_machine_without_containers_has_no_families_and_one_without_cgroups_no_data() {
    let mut empty = fixture(&[("sys/fs/cgroup/cgroup.controllers".to_owned(), "cpu\n")]);
    assert_eq!(empty.page().unwrap(), "");
    assert!(matches!(fixture(&[]).page(), Err(CollectError::NoData(_))));
}

#[test]
fn a_broken_file_is_an_error() {
    let mut files = version_2(&format!("/docker/{ID}"), "4711\n");
    files.push((format!("sys/fs/cgroup/docker/{ID}/memory.current"), "lots\n"));
    assert!(matches!(fixture(&files).page(), Err(CollectError::Content(_))));
}

#[test]
fn a_pod_is_named_by_the_folders_of_its_logs() {
    let pod = "0d6b0c2e-8f3a-4a7e-9a35-0a8f7c2f1d11";
    let slice = format!("/kubepods.slice/kubepods-pod{}.slice", pod.replace('-', "_"));
    let machine = fixture(&version_2(&format!("{slice}/cri-containerd-{ID}.scope"), "4711\n"));
    let at = |name: &str| machine.folder.path().join(name);
    std::fs::create_dir_all(at(&format!("root/var/log/pods/shop_web-7c9_{pod}"))).unwrap();
    let roots = Roots { procfs: at("proc"), sysfs: at("sys"), rootfs: at("root"), udev_data: at("udev") };
    let mut host = Host::new(roots);
    let mut collector = Containers::new(&mut host, &filters().containers);
    let mut labels = |container: &str| {
        let mut buffer = Vec::new();
        host.begin_scrape();
        collector.collect(&mut host, &mut Page::new(&mut buffer, Format::Text)).unwrap();
        let page = String::from_utf8(buffer).unwrap();
        let expected = format!(
            "\ncontainer_memory_rss{{id=\"{slice}/cri-containerd-{ID}.scope\"{container},pod=\"web-7c9\",namespace=\"shop\"}} 600\n"
        );
        assert!(page.contains(&expected), "{expected} in {page}");
    };
    labels("");
    std::fs::create_dir_all(at("root/var/log/containers")).unwrap();
    std::fs::write(at(&format!("root/var/log/containers/web-7c9_shop_nginx-{ID}.log")), "").unwrap();
    labels(",container=\"nginx\"");
}
