use super::super::testing::Fixture;
use super::*;

const FILES: [(&str, &str); 12] = [
    ("sys/devices/platform/coretemp.0/x", ""),
    ("sys/class/hwmon/hwmon0/name", "coretemp\n"),
    ("sys/class/hwmon/hwmon0/temp1_input", "54000\n"),
    ("sys/class/hwmon/hwmon0/temp1_label", "Core 0\n"),
    ("sys/class/hwmon/hwmon0/temp1_crit_alarm", "0\n"),
    ("sys/class/hwmon/hwmon1/name", "nct6779\n"),
    ("sys/class/hwmon/hwmon1/fan2_input", "1098\n"),
    ("sys/class/hwmon/hwmon1/pwm1", "107\n"),
    ("sys/class/hwmon/hwmon1/energy1_input", "1500000\n"),
    ("sys/class/hwmon/hwmon1/in0_input", "x\n"),
    ("sys/class/hwmon/hwmon1/power1_average", "-2500000\n"),
    ("sys/class/hwmon/hwmon1/uevent", ""),
];

#[test]
fn sensors_are_in_base_units_and_named_by_their_device() {
    let mut fixture = Fixture::new(&ENTRY, &FILES);
    let sys = fixture.folder.path().join("sys");
    std::os::unix::fs::symlink("../../../devices/platform/coretemp.0", sys.join("class/hwmon/hwmon0/device")).unwrap();
    for _ in 0..2 {
        assert_eq!(
            fixture.samples().unwrap(),
            [
                "node_hwmon_chip_names{chip=\"platform_coretemp_0\",chip_name=\"coretemp\"} 1",
                "node_hwmon_chip_names{chip=\"nct6779\",chip_name=\"nct6779\"} 1",
                "node_hwmon_energy_joule_total{chip=\"nct6779\",sensor=\"energy1\"} 1.5",
                "node_hwmon_fan_rpm{chip=\"nct6779\",sensor=\"fan2\"} 1098",
                "node_hwmon_power_average_watt{chip=\"nct6779\",sensor=\"power1\"} -2.5",
                "node_hwmon_pwm{chip=\"nct6779\",sensor=\"pwm1\"} 107",
                "node_hwmon_sensor_label{chip=\"platform_coretemp_0\",sensor=\"temp1\",label=\"Core 0\"} 1",
                "node_hwmon_temp_celsius{chip=\"platform_coretemp_0\",sensor=\"temp1\"} 54",
                "node_hwmon_temp_crit_alarm_celsius{chip=\"platform_coretemp_0\",sensor=\"temp1\"} 0",
            ]
        );
    }
}

#[test]
fn chips_of_one_name_are_told_apart() {
    let files = [
        ("sys/class/hwmon/hwmon0/name", "acpitz\n"),
        ("sys/class/hwmon/hwmon0/temp1_input", "1000\n"),
        ("sys/class/hwmon/hwmon1/name", "acpitz\n"),
        ("sys/class/hwmon/hwmon1/temp1_input", "2000\n"),
    ];
    let samples = Fixture::new(&ENTRY, &files).samples().unwrap();
    assert_eq!(samples[2], "node_hwmon_temp_celsius{chip=\"acpitz_hwmon0\",sensor=\"temp1\"} 1");
    assert_eq!(samples[3], "node_hwmon_temp_celsius{chip=\"acpitz_hwmon1\",sensor=\"temp1\"} 2");
}

#[test]
fn a_chip_that_comes_later_is_shown_and_filters_choose() {
    let mut fixture = Fixture::new(&ENTRY, &[("sys/class/hwmon/hwmon0/temp1_input", "1000\n")]);
    assert_eq!(fixture.samples().unwrap().len(), 1);
    fixture.write("sys/class/hwmon/hwmon7/temp1_input", "3000\n");
    assert_eq!(fixture.samples().unwrap()[1], "node_hwmon_temp_celsius{chip=\"hwmon7\",sensor=\"temp1\"} 3");
    let exclude = regex_lite::Regex::new("coretemp").ok();
    let filters = Filters { hwmon_chips: Filter { include: None, exclude }, ..Filters::default() };
    let samples = Fixture::with_filters(&ENTRY, &FILES, &filters).samples().unwrap();
    assert!(samples.iter().all(|line| line.contains("nct6779")), "{samples:?}");
    assert!(matches!(Fixture::new(&ENTRY, &[]).samples(), Err(CollectError::NoData(_))));
}
