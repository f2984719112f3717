package install

import (
	"cmp"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"holdfast/internal/config"
	"holdfast/internal/inventory"
	"holdfast/internal/lib/pki"
)

// QueryFor is what an installation asks a host of itself. domain is the name of the
// management VM's domain.
func QueryFor(cfg config.Cluster, base config.Node, h Host, domain string) *Query {
	n := Settings(cfg, h, "x", base)
	q := &Query{Host: h.Name, Addr: h.Addr, DataDir: "/var/lib/holdfast",
		Socket: cmp.Or(n.Libvirt.Socket, config.LibvirtSocket), Ports: h.Ports(), Machine: n.Machine, Domain: domain}
	if n.DataDir != "" {
		q.DataDir = n.DataDir
	}
	if port := consolePort(n); port != 0 {
		q.Ports = append(q.Ports, port)
	}
	if n.Driver == "process" {
		q.Socket = ""
	}
	if h.Guests {
		return q
	}
	if isPair(cfg) {
		q.Socket, q.Pair = "", pairQuery(cfg, h)
		return q
	}
	for _, b := range cfg.Network {
		q.Bridges = append(q.Bridges, b.Bridge)
	}
	q.RBD = cfg.RBD()
	if cfg.Type == config.FileConf {
		q.ImageFolder = cfg.ImageFolder
		if cfg.ImageURL == "" && cfg.DomainXML == "" {
			q.Image = filepath.Join(q.ImageFolder, ImageName)
		}
	}
	return q
}

// QueryAlone is what a host is asked of itself that has the program only, and no settings.
func QueryAlone(domain string) *Query {
	return QueryFor(config.Cluster{}, config.Node{}, Host{}, domain)
}

// DiagnoseAlone says what is right and wrong on a host that has the program only: what no configuration is needed for.
func DiagnoseAlone(name string, f Facts) Report {
	j := &judgement{at: name}
	s := sight{host: Host{Name: name}, facts: f, alone: true}
	j.system(s)
	j.hypervisor(s)
	j.ports(s)
	j.firewall(s)
	j.installed(s)
	j.say("settings", Warn, "this host is of no cluster yet: there is no "+SettingsFile,
		"holdfast config sample FileConf -o cluster.json; edit it; holdfast install -c cluster.json --check")
	return report(j.out)
}

// Diagnose says what is right and wrong on one host that is installed, beside what
// was found otherwise.
func Diagnose(cfg config.Cluster, base config.Node, h Host, f Facts, now time.Time, more []Finding) Report {
	found := judge(cfg, base, []sight{{host: h, facts: f, alone: true}}, nil, nil)
	for _, path := range slices.Sorted(maps.Keys(f.Certificates)) {
		if c := expiry(h, path, f.Certificates[path], now); c.Result == Fail {
			found = append([]Finding{c}, found...) // first: nothing else works without it
		} else {
			found = append(found, c)
		}
	}
	if f.Installed == nil || !f.Installed.Active {
		found = append(found, Finding{h.Name, "agent", Fail, "it does not run", "systemctl status holdfast; journalctl -u holdfast"})
	}
	return report(append(found, more...))
}

// expiry judges the time of a certificate.
func expiry(h Host, path, text string, now time.Time) Finding {
	f := Finding{Node: h.Name, Check: "certificate", Result: Pass}
	remedy := "holdfast certificates says why it is not renewed; holdfast install -c FILE again gives the host new ones"
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		f.Result, f.Finding, f.Remedy = Fail, path+" is no certificate", remedy
		return f
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		f.Result, f.Finding, f.Remedy = Fail, path+": "+err.Error(), remedy
		return f
	}
	switch inventory.CertState(pki.Life(cert), cert.NotAfter, cert.NotAfter, now) {
	case inventory.CertExpired:
		f.Result, f.Remedy = Fail, remedy
	case inventory.CertSoon:
		f.Result, f.Remedy = Warn, remedy
	}
	f.Finding = fmt.Sprintf("%s: the certificate ends on %s", path, cert.NotAfter.UTC().Format(time.DateOnly))
	if f.Result == Fail {
		f.Finding = fmt.Sprintf("%s: the certificate ended on %s", path, cert.NotAfter.UTC().Format(time.DateOnly))
	}
	return f
}
