package install

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"holdfast/internal/config"
)

// QueryFor is what an installation asks a host of itself. domain is the name of the
// management VM's domain.
func QueryFor(cfg config.Cluster, base config.Node, h Host, domain string) *Query {
	n := Settings(cfg, h, "x", base)
	q := &Query{Host: h.Name, Addr: h.Addr, DataDir: "/var/lib/holdfast", Socket: n.Libvirt.Socket, Ports: h.ports(), Machine: n.Machine, Domain: domain}
	if n.DataDir != "" {
		q.DataDir = n.DataDir
	}
	if h.Guests {
		return q
	}
	for _, b := range cfg.Network {
		q.Bridges = append(q.Bridges, b.Bridge)
	}
	if cfg.Type == config.FileConf {
		q.ImageFolder = cfg.ImageFolder
		if cfg.ImageURL == "" && cfg.DomainXML == "" {
			q.Image = filepath.Join(q.ImageFolder, ImageName)
		}
	}
	return q
}

// Diagnose says what is right and wrong on one host that is installed, beside what
// was found otherwise.
func Diagnose(cfg config.Cluster, base config.Node, h Host, f Facts, now time.Time, more []Finding) Report {
	found := judge(cfg, base, []sight{{host: h, facts: f, alone: true}})
	for _, path := range slices.Sorted(maps.Keys(f.Certificates)) {
		found = append(found, expiry(h, path, f.Certificates[path], now))
	}
	if f.Installed == nil || !f.Installed.Active {
		found = append(found, Finding{h.Name, "agent", Fail, "it does not run", "systemctl status holdfast; journalctl -u holdfast"})
	}
	return report(append(found, more...))
}

// expirySoon is how long before the end of a certificate people hear of it.
const expirySoon = 60 * 24 * time.Hour

// expiry judges the time of a certificate.
func expiry(h Host, path, text string, now time.Time) Finding {
	f := Finding{Node: h.Name, Check: "certificate", Result: Pass}
	const remedy = "holdfast install -c FILE makes those anew that have less than a third of their time left"
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
	f.Finding = fmt.Sprintf("%s ends on %s", path, cert.NotAfter.UTC().Format(time.DateOnly))
	if left := cert.NotAfter.Sub(now); left <= 0 {
		f.Result, f.Remedy = Fail, remedy
	} else if left < expirySoon {
		f.Result, f.Remedy = Warn, remedy
	}
	return f
}
