package first

import (
	"cmp"
	"context"
	"crypto/rand"
	"net"
	"net/http"
	"strconv"
	"strings"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/install"
	"holdfast/internal/install/remote"
	"holdfast/internal/lib/fail"
)

// clusterPlan makes hosts that keep a management VM up.
type clusterPlan struct {
	r        *Run
	cfg      config.Cluster
	base     config.Node // settings of all agents
	text     []byte
	closed   bool // their firewalls are left alone
	warnings []install.Finding
}

func (p *clusterPlan) title() string         { return "A management VM on three or more hosts" }
func (p *clusterPlan) form() string          { return "/cluster" }
func (p *clusterPlan) hosts() []install.Host { return install.Members(p.cfg) }
func (p *clusterPlan) parts() []string       { return nil }
func (p *clusterPlan) word() string          { return "" }
func (p *clusterPlan) close() error          { return nil }

// options are those of the installation.
func (p *clusterPlan) options(w *work) (o install.Options, err error) {
	o = install.Options{Config: p.cfg, ConfigText: p.text, Base: p.base, Undersized: p.r.Undersized, Domain: cluster.GuestName,
		NoFirewall: p.closed, Parallel: parallel, Connect: remote.Connector(w.ssh, p.r.Program), Tell: w.tell,
		Confirm: func(_ context.Context, what string) error {
			return fail.Errorf(fail.Refused, "%s: a first run does not do that; nothing was changed", what).
				With("on a host of the cluster: holdfast install -c FILE")
		}}
	o.Files, err = p.r.Files(false)
	return o, err
}

func (p *clusterPlan) check(ctx context.Context, w *work) error {
	o, err := p.options(w)
	if err != nil {
		return err
	}
	res, err := install.Install(ctx, o, true)
	w.found(append(res.Findings, p.warnings...))
	return err
}

func (p *clusterPlan) make(ctx context.Context, w *work) error {
	o, err := p.options(w)
	if err != nil {
		return err
	}
	res, err := install.Install(ctx, o, false)
	if err != nil {
		return err
	}
	return w.installed(res)
}

func (p *clusterPlan) consequences(v *view) []string {
	var names []string
	for _, h := range p.hosts() {
		names = append(names, h.Name)
	}
	out := []string{v.T("Holdfast is installed on " + strings.Join(names, ", ") +
		": the program, its settings, certificates and its unit of systemd.")}
	if p.closed {
		out = append(out, v.T("Their firewalls are left alone: you open the ports yourself."))
	} else {
		out = append(out, v.T("Where a host has a firewall, it lets in what the hosts need of each other, and browsers at the console's port."))
	}
	return append(out, v.T("Their agents are started, and one of them starts the management VM."),
		v.T("What one host can not take is taken back on all of them."))
}

// clusterPage asks for what a cluster needs. What was asked for last is there.
func (r *Run) clusterPage(w http.ResponseWriter, q *http.Request, v *view) {
	f := newForm()
	if now := r.now(); now != nil {
		if p, ok := now.plan.(*clusterPlan); ok {
			f = fromConfig(p.cfg)
			f.Set("text", string(p.cfg.YAML()))
		}
	}
	if q.URL.Query().Has("text") && f.Get("text") == "" {
		sample, err := config.Sample(config.FileConf, rand.Reader)
		if err != nil {
			r.fails(w, q, v, err)
			return
		}
		cl, _, _ := config.Parse("sample.json", sample, config.Options{})
		f.Set("text", string(cl.YAML()))
	}
	r.showCluster(w, q, v, http.StatusOK, f, q.URL.Query().Has("text"))
}

func (r *Run) showCluster(w http.ResponseWriter, q *http.Request, v *view, code int, f *form, asText bool) {
	v.Title = v.T("A management VM on three or more hosts")
	r.show(w, q, code, whole(v, clusterForm(v, f.shown(), asText)))
}

// cluster takes what was typed, and begins to check.
func (r *Run) cluster(w http.ResponseWriter, q *http.Request, v *view) {
	f, err := read(q)
	if err != nil {
		r.fails(w, q, v, err)
		return
	}
	asText := f.Get("text") != ""
	p := &clusterPlan{r: r, closed: f.Get("closed") != ""}
	name := "configuration.yaml"
	if asText {
		p.text = []byte(f.Get("text"))
		if strings.HasPrefix(strings.TrimSpace(f.Get("text")), "{") {
			name = "configuration.json"
		}
	} else {
		p.text, name = f.config().JSON(), "configuration.json"
	}
	cl, faults, warnings := config.Parse(name, p.text, config.Options{AllowUndersized: r.Undersized})
	p.cfg = cl
	for _, x := range faults {
		field := "text"
		if !asText {
			field = fieldOf(x.Path)
		}
		if asText {
			f.wrong(field, fail.Errorf(fail.Invalid, "line %d: %s: value %q: %s", x.Place.Line, x.Path, short(x.Value), x.Want))
		} else {
			f.wrong(field, fail.Errorf(fail.Invalid, "%s: value %q: %s", x.Path, short(x.Value), x.Want))
		}
	}
	for _, x := range warnings {
		p.warnings = append(p.warnings, install.Finding{Check: "configuration", Result: install.Warn,
			Finding: strings.TrimPrefix(x.Path+": "+x.Text, ": ")})
	}
	if len(faults) == 0 && cl.Type == config.PairConf {
		f.wrong("text", fail.Errorf(fail.Invalid, "Type: value %q: a pair is made on a page of its own", cl.Type))
	}
	if asText {
		p.base = f.base()
	}
	ssh := f.login(r.KnownHosts)
	if len(f.faults) > 0 {
		v.Fail(fail.Errorf(fail.Invalid, "Something is missing or wrong below. Nothing was begun."))
		r.showCluster(w, q, v, http.StatusUnprocessableEntity, f, asText)
		return
	}
	r.start(w, q, v, p, ssh)
}

// networks is how many networks the form has.
const networks = 3

// config is the configuration by the fields of the form.
func (f *form) config() config.Cluster {
	cl := config.Cluster{Node: lines(f.Get("hosts")), Type: cmp.Or(f.Get("type"), config.FileConf),
		MemorySizeInGB: f.number("memory", 1, 1<<20), CPU: f.number("cpu", 1, 1<<10),
		ChronyServers: list(f.Get("chrony")), DNS: list(f.Get("dns"))}
	if cl.Type == config.CephConf {
		cl.MonAddrs, cl.PoolName = list(f.Get("monitors")), strings.TrimSpace(f.Get("pool"))
	} else {
		cl.ImageFolder = strings.TrimSpace(f.Get("folder"))
	}
	for i := range networks {
		n := strconv.Itoa(i)
		if f.Get("bridge"+n) == "" {
			continue
		}
		mac := f.Get("mac" + n)
		if mac == "" {
			mac = newMAC()
			f.Set("mac"+n, mac)
		}
		cl.Network = append(cl.Network, config.Network{Bridge: f.Get("bridge" + n), MacAddress: mac, Ipaddr: f.Get("ip" + n),
			Netmask: f.Get("mask" + n), Gateway: f.Get("gateway" + n), IsMgmt: cmp.Or(f.Get("mgmt"), "0") == n,
			IsDefRoute: cmp.Or(f.Get("route"), "0") == n})
	}
	return cl
}

// fromConfig fills the form in by a configuration.
func fromConfig(cl config.Cluster) *form {
	f := newForm()
	for k, v := range map[string]string{
		"hosts": strings.Join(cl.Node, "\n"), "type": cl.Type, "memory": strconv.Itoa(cl.MemorySizeInGB), "cpu": strconv.Itoa(cl.CPU),
		"folder": cl.ImageFolder, "monitors": strings.Join(cl.MonAddrs, ", "), "pool": cl.PoolName,
		"chrony": strings.Join(cl.ChronyServers, ", "), "dns": strings.Join(cl.DNS, ", "),
	} {
		f.Set(k, v)
	}
	for i, x := range cl.Network[:min(len(cl.Network), networks)] {
		n := strconv.Itoa(i)
		for k, v := range map[string]string{"bridge": x.Bridge, "mac": x.MacAddress, "ip": x.Ipaddr, "mask": x.Netmask, "gateway": x.Gateway} {
			f.Set(k+n, v)
		}
		if x.IsMgmt {
			f.Set("mgmt", n)
		}
		if x.IsDefRoute {
			f.Set("route", n)
		}
	}
	return f
}

// fieldOf is the field of the form that a path in the configuration comes from; "": none.
func fieldOf(path string) string {
	fields := map[string]string{"Node": "hosts", "MemorySizeInGB": "memory", "CPU": "cpu", "Type": "type", "MonAddrs": "monitors",
		"PoolName": "pool", "ImageFolder": "folder", "ChronyServers": "chrony", "DNS": "dns"}
	top, rest, _ := strings.Cut(path, "[")
	top, _, _ = strings.Cut(top, ".")
	if top != "Network" {
		return fields[top]
	}
	n, rest, found := strings.Cut(rest, "].")
	if !found {
		return "bridge0"
	}
	return cmp.Or(map[string]string{"Bridge": "bridge", "Ipaddr": "ip", "Netmask": "mask", "Gateway": "gateway"}[rest], "bridge") + n
}

// newMAC is an address of a network card that nobody has given away.
func newMAC() string {
	mac := make(net.HardwareAddr, 6)
	_, _ = rand.Read(mac) // never fails
	mac[0] = mac[0]&^1 | 2
	return mac.String()
}
