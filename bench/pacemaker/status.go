package pacemaker

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// status is what crm_mon says of the cluster.
type status struct {
	from  string // the host that was asked
	Nodes []struct {
		Name    string `xml:"name,attr"`
		Online  bool   `xml:"online,attr"`
		Unclean bool   `xml:"unclean,attr"`
		Pending bool   `xml:"pending,attr"`
		DC      bool   `xml:"is_dc,attr"` // it coordinates
	} `xml:"nodes>node"`
	Resources []resource `xml:"resources>resource"`
	Grouped   []resource `xml:"resources>group>resource"`
	Cloned    []resource `xml:"resources>clone>resource"`
	Failures  []struct {
		Op string `xml:"op_key,attr"`
	} `xml:"failures>failure"`
	Quorum struct {
		With bool `xml:"with_quorum,attr"`
	} `xml:"summary>current_dc"`
}

// resource is one resource of crm_mon's answer.
type resource struct {
	ID      string `xml:"id,attr"`
	Role    string `xml:"role,attr"`
	Failed  bool   `xml:"failed,attr"`
	Pending string `xml:"pending,attr"`
	Nodes   []struct {
		Name string `xml:"name,attr"`
	} `xml:"node"`
}

func parseStatus(raw string) (status, error) {
	var st status
	if err := xml.Unmarshal([]byte(raw), &st); err != nil {
		return status{}, fmt.Errorf("read crm_mon's answer: %w", err)
	}
	if len(st.Nodes) == 0 {
		return status{}, errors.New("read crm_mon's answer: it names no hosts")
	}
	return st, nil
}

// statusLimit is how long a host may take to say what it sees.
const statusLimit = 5 * time.Second

// status asks the hosts in turn; one without a quorum does not know.
func (c *Cluster) status(ctx context.Context) (status, error) {
	var errs []error
	for _, h := range c.lab.Hosts() {
		one, cancel := context.WithTimeout(ctx, statusLimit)
		raw, err := c.lab.Exec(one, h, "crm_mon", "--one-shot", "--output-as=xml")
		cancel()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		st, err := parseStatus(raw)
		if err == nil && st.Quorum.With {
			st.from = h
			return st, nil
		}
		errs = append(errs, fmt.Errorf("%s: no quorum", h), err)
	}
	return status{}, fmt.Errorf("ask the cluster: %w", errors.Join(errs...))
}

// missing says which of the hosts are not in the cluster, "" when all are.
func (st status) missing(hosts []string) string {
	var not []string
	for _, h := range hosts {
		ok := false
		for _, n := range st.Nodes {
			ok = ok || n.Name == h && n.Online && !n.Unclean && !n.Pending
		}
		if !ok {
			not = append(not, h)
		}
	}
	if len(not) == 0 {
		return ""
	}
	return "not in the cluster: " + strings.Join(not, ", ")
}

// unsettled says why the cluster is not as it should be, "" when it is: all hosts
// are there and all resources, ids and the fence device, run.
func (st status) unsettled(hosts, ids []string) string {
	if why := st.missing(hosts); why != "" {
		return why
	}
	for _, f := range st.Failures {
		return "it remembers a failure of " + f.Op
	}
	roles := map[string]int{}
	for _, r := range st.Cloned {
		if roles[r.Role]++; r.Failed || r.Pending != "" {
			return fmt.Sprintf("%s is %s (failed: %t, under way: %q)", r.ID, r.Role, r.Failed, r.Pending)
		}
	}
	if len(st.Cloned) > 0 && (roles["Promoted"] != 1 || roles["Unpromoted"] != 1) {
		return fmt.Sprintf("roles of the database: %v", roles)
	}
	want := append([]string{"fence"}, ids...)
	for _, r := range slices.Concat(st.Resources, st.Grouped) {
		if r.Role != "Started" || r.Failed || r.Pending != "" || len(r.Nodes) != 1 {
			return fmt.Sprintf("%s is %s on %d hosts (failed: %t, under way: %q)", r.ID, r.Role, len(r.Nodes), r.Failed, r.Pending)
		}
		want = slices.DeleteFunc(want, func(w string) bool { return w == r.ID })
	}
	if len(want) > 0 {
		return "no such resource: " + strings.Join(want, ", ")
	}
	return ""
}

// active is the host that runs a resource.
func (st status) active(id string) (string, bool) {
	for _, r := range slices.Concat(st.Resources, st.Grouped) {
		if r.ID == id && r.Role == "Started" && len(r.Nodes) == 1 {
			return r.Nodes[0].Name, true
		}
	}
	return "", false
}

// coordinator is the host that coordinates, "" when none does.
func (st status) coordinator() string {
	for _, n := range st.Nodes {
		if n.DC {
			return n.Name
		}
	}
	return ""
}
