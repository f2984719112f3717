package bridge

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"holdfast/internal/lib/fail"
)

// agentFiles are where Neutron's agent for Open vSwitch has its settings (Debian, RDO, the source).
var agentFiles = []string{
	"/etc/neutron/plugins/ml2/openvswitch_agent.ini", "/etc/neutron/neutron.conf",
	"/etc/neutron/agent.conf.d/*.conf", "/etc/neutron/conf.d/neutron-openvswitch-agent/*.conf",
}

// keepsFlows refuses a bridge of a host whose network agent would delete all flows when it starts, as one of its files says.
func keepsFlows(bridge string, files []string) error {
	for _, pattern := range files {
		names, err := filepath.Glob(pattern)
		if err != nil {
			return fmt.Errorf("%s: %w", pattern, err)
		}
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				return fail.Errorf(fail.Failed, "look for drop_flows_on_start: %w", err)
			}
			if dropsFlows(string(b)) {
				return fail.Errorf(fail.Refused, "bridge %s can not be pinned: %s has drop_flows_on_start = true: "+
					"the network agent deletes all flows when it starts, also a pin", bridge, name).
					With("set drop_flows_on_start = false in that file; the agent reads it when it starts")
			}
		}
	}
	return nil
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
