package bridge

import (
	"os"
	"path/filepath"
	"strings"
)

// agentFiles are where Neutron's agent for Open vSwitch has its settings (Debian, RDO, the source).
var agentFiles = []string{
	"/etc/neutron/plugins/ml2/openvswitch_agent.ini", "/etc/neutron/neutron.conf",
	"/etc/neutron/conf.d/neutron-openvswitch-agent/*.conf",
}

// agentNotes say what of this host's network agent ends a pin before its time.
func agentNotes() (notes []string) {
	for _, pattern := range agentFiles {
		names, err := filepath.Glob(pattern)
		if err != nil {
			notes = append(notes, err.Error())
		}
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				notes = append(notes, err.Error())
			}
			if dropsFlows(string(b)) {
				notes = append(notes, name+" has drop_flows_on_start: the agent deletes all flows when it starts, also the pin; set it to false before")
			}
		}
	}
	return notes
}

// dropsFlows reads drop_flows_on_start of an oslo.config file.
func dropsFlows(ini string) (drops bool) {
	for line := range strings.Lines(ini) {
		key, value, ok := strings.Cut(line, "=")
		if !ok || strings.TrimSpace(key) != "drop_flows_on_start" {
			continue
		}
		switch strings.ToLower(strings.TrimSpace(value)) {
		case "1", "true", "yes", "on":
			drops = true
		default:
			drops = false
		}
	}
	return drops
}
