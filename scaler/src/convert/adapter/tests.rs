use super::*;

/// Converts the text, with these series for all rules that name several; returns our file, the notes and what is lost.
fn convert(text: &str, series: &[&str]) -> (Vec<Shape>, Vec<String>, Vec<String>) {
    let (mut lost, mut metrics, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    for (number, rule) in read("a.yaml", text, &mut lost).into_iter().enumerate() {
        let names = match rule.names() {
            Some(Names::One(name)) => vec![name],
            _ => series.iter().map(|name| (*name).to_owned()).collect(),
        };
        let at = format!("externalRules[{number}]");
        rule.metrics(&at, &names, &mut metrics, &mut notes, &mut Check::new("a.yaml", &mut lost));
    }
    (metrics, notes, lost.iter().map(ToString::to_string).collect())
}

fn named(metrics: &[Shape]) -> Vec<(&str, &str)> {
    metrics.iter().map(|one| (one.name.as_deref().unwrap(), one.query.as_deref().unwrap())).collect()
}

#[test]
fn the_usual_rule_is_carried_over() {
    let text = "
externalRules:
- seriesQuery: 'queue_messages_ready{queue!=\"\",namespace!=\"\"}'
  resources: {overrides: {namespace: {resource: namespace}, kubernetes_pod_name: {resource: pod}}}
  name: {matches: '^(.*)_ready$', as: '${1}'}
  metricsQuery: 'sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)'
- seriesQuery: '{__name__=\"http_requests_total\",job=\"web\"}'
  resources: {template: 'kube_<<.Resource>>'}
  name: {matches: '^(.*)_total$'}
  metricsQuery: 'sum(rate(<<.Series>>{<<.LabelMatchers>>}[2m]))'
- seriesQuery: up
  resources: {namespaced: false}
  metricsQuery: 'sum(<< .Series >>{<< .LabelMatchers >>})'
";
    let (metrics, notes, lost) = convert(text, &[]);
    let expected = [
        ("queue_messages", "sum(queue_messages_ready{<<.LabelMatchers>>}) by (<<.GroupBy>>)"),
        ("http_requests", "sum(rate(http_requests_total{<<.LabelMatchers>>}[2m]))"),
        ("up", "sum(up{<< .LabelMatchers >>})"),
    ];
    assert_eq!(named(&metrics), expected);
    assert_eq!(
        metrics.iter().map(|one| (one.namespaced, one.namespace_label.as_deref())).collect::<Vec<_>>(),
        [(None, None), (None, Some("kube_namespace")), (Some(false), None)]
    );
    assert!(notes.is_empty() && lost.is_empty(), "{notes:#?} {lost:#?}");
}

#[test]
fn several_series_are_filtered_and_named_one_by_one() {
    let text = "
apiVersion: v1
kind: ConfigMap
data:
  config.yaml: |
    externalRules:
    - seriesQuery: '{__name__=~\"^container_.*\"}'
      seriesFilters: [{isNot: '_seconds_'}, {is: '^container_c'}]
      resources: {overrides: {ns: {resource: namespaces}}}
      name: {matches: '^container_(.*)_Total$', as: 'c_${1}'}
      metricsQuery: 'sum(<<.Series>>{<<.LabelMatchers>>})'
";
    let series = [
        "container_Cpu_Total",
        "container_cpu_Total",
        "container_cpu_seconds_Total",
        "container_mem_Total",
        "container_x",
    ];
    let (metrics, notes, lost) = convert(text, &series);
    assert_eq!(named(&metrics), [("c_cpu", "sum(container_cpu_Total{<<.LabelMatchers>>})")]);
    assert_eq!(metrics[0].namespace_label.as_deref(), Some("ns"));
    assert!(notes.is_empty() && lost.is_empty(), "{notes:#?} {lost:#?}");
    let (metrics, notes, lost) = convert(&text.replace("{is: '^container_c'}", "{is: '^container_[Cc]'}"), &series);
    assert_eq!(metrics.len(), 1);
    assert!(notes[0].contains("c_Cpu is c_cpu now"), "{notes:#?}");
    assert!(lost[0].contains("c_cpu is there already; container_cpu_Total is left out"), "{lost:#?}");
}

#[test]
fn what_cannot_be_carried_over_is_said_with_its_place() {
    let text = "
rules: [{seriesQuery: x}]
resourceRules: {cpu: {}}
externalRules:
- {seriesQuery: a, metricsQuery: 'a{<<.LabelMatchers>>}'}
- {seriesQuery: b, resources: {namespaced: false}, metricsQuery: 'b{<<range .GroupBySlice>>x<<end>>}'}
- {seriesQuery: c, resources: {overrides: {a: {resource: namespace}, b: {resource: namespaces}}}, metricsQuery: x}
- {seriesQuery: d, resources: {template: '<<.Resource | x>>'}, metricsQuery: x}
- {seriesQuery: e, resources: {namespaced: false}, name: {matches: '(', as: x}, metricsQuery: x}
- {seriesQuery: f, resources: {namespaced: false}, name: {matches: '(.)(.*)'}, metricsQuery: x}
- {seriesQuery: g, resources: {namespaced: false}, seriesFilters: [{is: a, isNot: b}], metricsQuery: x}
- {seriesQuery: h, resources: {namespaced: false}, name: {matches: '^x'}, metricsQuery: x}
- {seriesQuery: i, resources: {namespaced: false}, labelValueReplacements: [], metricsQuery: ''}
- {seriesQuery: j, resources: {namespaced: false}, name: {as: 'a/b'}, metricsQuery: 'j{<<.LabelMatchers>>}'}
";
    let (metrics, _, lost) = convert(text, &[]);
    assert!(metrics.is_empty(), "{metrics:#?}");
    for expected in [
        "a.yaml: rules: 1 rules are for custom metrics",
        "a.yaml: resourceRules: are for resource metrics",
        "externalRules[0].resources: does not say which label is the namespace",
        "externalRules[1].metricsQuery: has <<range .GroupBySlice>>, which is not supported",
        "externalRules[2].resources.overrides: a, b are all said to be the namespace",
        "externalRules[3].resources.template: has more than",
        "externalRules[4].name.matches: \"(\" cannot be read",
        "externalRules[5].name.as: is missing",
        "externalRules[6].seriesFilters[0]: must have one of is and isNot",
        "externalRules[7].seriesQuery: no series is left of h",
        "externalRules[8].labelValueReplacements: unknown field",
        "externalRules[8].metricsQuery: is missing",
        "externalRules[9].name: is \"a/b\"",
    ] {
        assert!(lost.iter().any(|one| one.contains(expected)), "{expected}: {lost:#?}");
    }
    assert_eq!(lost.len(), 13, "{lost:#?}");
}

#[test]
fn a_query_without_a_place_for_the_selector_is_for_all_namespaces() {
    let text = "externalRules: [{seriesQuery: q, resources: {overrides: {namespace: {resource: namespace}}}, metricsQuery: max(q)}]";
    let (metrics, notes, lost) = convert(text, &[]);
    assert_eq!((metrics[0].namespaced, lost), (Some(false), vec![]));
    assert!(notes[0].contains("here it chooses among what the query gives"), "{notes:#?}");
}

#[test]
fn what_a_rule_is_for_is_known_or_asked() {
    let names = |query: &str| Rule { series_query: Some(query.to_owned()), ..Rule::default() }.names();
    for query in ["up", " up{job=\"a\"}", "{__name__=\"up\"}", "{ __name__ = \"up\" , a=~\".*\"}"] {
        assert_eq!(names(query), Some(Names::One("up".to_owned())), "{query}");
    }
    for query in ["{__name__=~\"^a.*\"}", "{job=\"a\"}", "{__name__!=\"up\"}", "{a=\"b\",__name__=\"up\"}"] {
        assert_eq!(names(query), Some(Names::Several(query.to_owned())), "{query}");
    }
    assert_eq!(names(" "), None);
}
