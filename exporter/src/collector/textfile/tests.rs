use super::super::testing::Fixture;
use super::*;

fn fixture(folder: &Path, files: &[(&str, &str)]) -> Fixture {
    for (name, content) in files {
        std::fs::write(folder.join(name), content).unwrap();
    }
    let filters = Filters { textfile_folders: vec![folder.to_owned()], ..Filters::default() };
    Fixture::with_filters(&ENTRY, &[], &filters)
}

/// Returns the page without the times of the files.
fn page(fixture: &mut Fixture) -> String {
    fixture.page().unwrap().lines().filter(|line| !line.contains("mtime")).map(|line| format!("{line}\n")).collect()
}

const FINE: &str = "# HELP node_textfile_scrape_error Whether something was wrong with a file or a folder of files.\n\
                    # TYPE node_textfile_scrape_error gauge\nnode_textfile_scrape_error 0\n";

#[test]
fn families_of_several_files_are_one() {
    let folder = tempfile::tempdir().unwrap();
    let files = [
        ("a.prom", "# HELP x_total X.\n# TYPE x_total counter\nx_total{f=\"a\"} 1\n"),
        ("b.prom", "# TYPE x_total counter\nx_total{f=\"b\"} 2\ny 3\n"),
        ("c.txt", "not read"),
    ];
    let mut fixture = fixture(folder.path(), &files);
    let families = "# HELP x_total X.\n# TYPE x_total counter\nx_total{f=\"a\"} 1\nx_total{f=\"b\"} 2\n";
    let help = format!("# HELP y Metric read from {}/b.prom\n# TYPE y untyped\ny 3\n", folder.path().display());
    for _ in 0..2 {
        assert_eq!(page(&mut fixture), format!("{families}{help}{FINE}"));
    }
    let times = fixture.samples().unwrap();
    let time = |file: &str| format!("node_textfile_mtime_seconds{{file=\"{}/{file}\"}} ", folder.path().display());
    assert!(times.iter().any(|line| line.starts_with(&time("a.prom"))), "{times:?}");
    assert!(!times.iter().any(|line| line.starts_with(&time("c.txt"))), "{times:?}");
}

#[test]
fn a_file_that_is_wrong_is_left_out_and_shown_as_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut fixture = fixture(folder.path(), &[("a.prom", "x 1\nbroken\n"), ("b.prom", "y 2\n")]);
    let samples = fixture.samples().unwrap();
    assert_eq!(samples[0], "y 2");
    assert_eq!(samples[2], "node_textfile_scrape_error 1");
    assert_eq!(samples.len(), 3, "a file that is wrong has no time either: {samples:?}");
    std::fs::remove_file(folder.path().join("a.prom")).unwrap();
    assert_eq!(fixture.samples().unwrap()[2], "node_textfile_scrape_error 0");
}

#[test]
fn contradictions_and_names_of_the_exporter_are_errors() {
    for (first, second) in [
        ("# HELP x A.\nx 1\n", "# HELP x B.\nx{a=\"b\"} 1\n"),
        ("# TYPE x gauge\nx 1\n", "# TYPE x counter\nx{a=\"b\"} 1\n"),
        ("x 1\n", "x 2\n"),
        ("x 1\n", "node_vmstat_pgpgin 1\n"),
        ("x 1\n", "node_scrape_collector_success 1\n"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let samples = fixture(folder.path(), &[("a.prom", first), ("b.prom", second)]).samples().unwrap();
        assert_eq!(samples[0], "x 1");
        assert!(samples[1].starts_with("node_textfile_mtime") && samples.len() == 4, "{samples:?}");
        assert_eq!(samples[3], "node_textfile_scrape_error 1", "{second}");
    }
}

#[test]
fn no_folder_is_no_error_and_one_that_is_not_there_is() {
    assert_eq!(Fixture::new(&ENTRY, &[]).page().unwrap(), FINE);
    let mut fixture = fixture(Path::new("/no/such/folder"), &[]);
    assert_eq!(fixture.samples().unwrap(), ["node_textfile_scrape_error 1"]);
}

#[test]
fn a_file_that_is_too_large_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::File::create(folder.path().join("a.prom")).unwrap().set_len(MOST_BYTES + 1).unwrap();
    let mut fixture = fixture(folder.path(), &[("b.prom", "y 2\n")]);
    let samples = fixture.samples().unwrap();
    assert_eq!((samples[0].as_str(), samples[2].as_str()), ("y 2", "node_textfile_scrape_error 1"));
}
