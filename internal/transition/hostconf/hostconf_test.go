package hostconf

import (
	"strings"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/strictyaml"
)

const site = `format: 1
files:
- {template: nova.conf.tmpl, path: /etc/nova/nova.conf, mode: "0640", owner: "root:nova", secret: true, groups: [compute]}
- {template: ceph.conf, path: /etc/ceph/ceph.conf}
values: {debug: false, mon: 10.0.0.1}
clusters:
  beijing:
    values: {region: bj}
    groups:
      compute: {hosts: [h1, h2], values: {cpus: 8, debug: true}}
      fast: {hosts: [h2], values: {cpus: 16}}
    hosts:
      h2: {values: {cpus: 12}}
      net1: {}
  shanghai:
    values: {region: sh}
    groups: {compute: {hosts: [s1], values: {cpus: 4}}}
`

var texts = map[string]string{
	"nova.conf.tmpl": "[DEFAULT]\nhost = {{.host}}\nmy_ip = {{.address}}\nregion = {{.region}}\ncpus = " +
		"{{.cpus}}\n{{if eq .debug \"true\"}}debug = true\n{{end}}",
	"ceph.conf": "[global]\nmon_host = {{.mon}}\n",
}

func parsed(t *testing.T, text string) *Config {
	t.Helper()
	c, faults := Parse([]byte(text))
	if len(faults) > 0 {
		t.Fatal(strictyaml.Lines("config.yaml", faults))
	}
	return c
}

// TestWhatIsNearerCounts: values of the host before those of its groups, of the cluster, of all.
func TestWhatIsNearerCounts(t *testing.T) {
	c := parsed(t, site)
	hosts, err := c.Render("beijing", texts, map[cluster.HostID]string{"h1": "10.1.0.1", "h2": "10.1.0.2"})
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, h := range hosts {
		for _, f := range h.Files {
			got.WriteString(string(h.Name) + " " + f.Path + " " + f.Mode + " " + f.Owner + "\n" + f.Content)
		}
	}
	const want = `h1 /etc/nova/nova.conf 0640 root:nova
[DEFAULT]
host = h1
my_ip = 10.1.0.1
region = bj
cpus = 8
debug = true
h1 /etc/ceph/ceph.conf  
[global]
mon_host = 10.0.0.1
h2 /etc/nova/nova.conf 0640 root:nova
[DEFAULT]
host = h2
my_ip = 10.1.0.2
region = bj
cpus = 12
debug = true
h2 /etc/ceph/ceph.conf  
[global]
mon_host = 10.0.0.1
net1 /etc/ceph/ceph.conf  
[global]
mon_host = 10.0.0.1
`
	if got.String() != want {
		t.Errorf("got\n%s", got.String())
	}
	if other, err := c.Render("shanghai", texts, nil); err != nil || len(other) != 1 ||
		!strings.Contains(other[0].Files[0].Content, "region = sh\ncpus = 4\n") {
		t.Errorf("%+v, %v", other, err)
	}
}

func TestFaults(t *testing.T) {
	for _, c := range []struct{ old, new, want string }{
		{"format: 1", "format: 2", `1:9: format: value "2": want 1`},
		{"template: ceph.conf", "template: ../ceph.conf",
			`4:14: files[1].template: value "../ceph.conf": want the path of a file in the directory`},
		{"path: /etc/ceph/ceph.conf", "path: /etc/../x", `files[1].path: value "/etc/../x": want the absolute path`},
		{`mode: "0640"`, `mode: "4755"`, "files[0].mode"},
		{`mode: "0640"`, `mode: "0240"`, "files[0].mode"},
		{`owner: "root:nova"`, "owner: nova", "files[0].owner: value \"nova\": want USER:GROUP"},
		{"groups: [compute]}", "groups: [computes]}", "files[0].groups[0]: value \"computes\": want a group of one of the clusters"},
		{"region: bj", "host: bj", "clusters.beijing.values.host: value \"host\": want another name"},
		{"region: bj", "my-region: bj", "want a name of letters, digits and '_'"},
		{"hosts: [h1, h2]", "hosts: [h1, h1]", "want each host once"},
		{"net1: {}", "net 1: {}", "want the name of a host"},
		{"net1: {}", "net1: {value: {}}", "clusters.beijing.hosts.net1.value"},
		{"mon: 10.0.0.1", "mon: [a]", "values.mon"},
	} {
		if !strings.Contains(site, c.old) {
			t.Fatalf("the file has no %q", c.old)
		}
		_, faults := Parse([]byte(strings.Replace(site, c.old, c.new, 1)))
		if got := strictyaml.Lines("", faults); !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.new, got, c.want)
		}
	}
	_, faults := Parse([]byte("format: 1\n" + strings.Repeat("#", MaxConfig)))
	if len(faults) != 1 {
		t.Errorf("%v", faults)
	}
}

// TestWhatCanNotBeRendered names template, line, value and host.
func TestWhatCanNotBeRendered(t *testing.T) {
	for _, x := range []struct{ old, new, template, want string }{
		{"", "", "{{.host}}\n{{.cpu}}\n", "host h1: template nova.conf.tmpl:2:2: no value cpu: want it among the values of config.yaml"},
		{"", "", "{{.host.name}}\n", "host h1: template nova.conf.tmpl:1:7: at .host.name: can't evaluate field name in type string"},
		{"", "", "a\n{{if}}\n", "template nova.conf.tmpl:2: missing value for if"},
		{"", "", `{{define "x"}}` + strings.Repeat("y", 1000) + `{{template "x" .}}{{end}}{{template "x" .}}`,
			"template nova.conf.tmpl: it becomes longer than 262144 bytes"},
		{"", "", "\xff", "template nova.conf.tmpl: what it becomes is not UTF-8"},
		{"h2: {values: {cpus: 12}}", "h2: {}", "x", "host h2: its groups compute and fast have different values of cpus"},
		{"path: /etc/ceph/ceph.conf", "path: /etc/nova/nova.conf", "x", "host h1: /etc/nova/nova.conf: two templates are for this path"},
		{"template: ceph.conf", "template: other", "x", "template other: there is no such file"},
	} {
		c := parsed(t, strings.Replace(site, x.old, x.new, 1))
		_, err := c.Render("beijing", map[string]string{"nova.conf.tmpl": x.template, "ceph.conf": texts["ceph.conf"]}, nil)
		if err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("got %v, want %s", err, x.want)
		}
	}
}

func TestAPlanIsOneHostAfterTheOther(t *testing.T) {
	o := Order{Title: "a", Hosts: []HostOrder{{Name: "h1", Set: "s", Was: []string{""}}, {Name: "h2", Set: "t", Was: []string{"x"}}}}
	p, err := o.Plan()
	if err != nil {
		t.Fatal(err)
	}
	steps, err := p.JobSteps()
	if err != nil || len(steps) != 2 || steps[1].ID != "h2/files" || steps[1].Kind != KindFiles || !steps[1].Idempotent ||
		string(steps[1].Args) != `{"title":"a","set":"t","was":["x"]}` {
		t.Errorf("%+v, %v", steps, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(site), texts["nova.conf.tmpl"])
	f.Fuzz(func(t *testing.T, text []byte, template string) {
		c, faults := Parse(text)
		if len(faults) > 0 {
			return
		}
		all := map[string]string{}
		for _, x := range c.Files {
			if !Inside(x.Template) || !Target(x.Path) {
				t.Fatalf("a configuration without faults has %+v", x)
			}
			all[x.Template] = template
		}
		for name := range c.Clusters {
			if len(c.Hosts(name)) == 0 {
				t.Fatalf("cluster %s without faults has no hosts", name)
			}
			hosts, err := c.Render(name, all, nil)
			for _, h := range hosts {
				if err == nil && len(h.Files) > MaxFiles {
					t.Fatalf("%s has %d files", h.Name, len(h.Files))
				}
			}
		}
	})
}
