// Package collect asks the services of an OpenStack platform what it has. It only reads.
package collect

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"

	"holdfast/internal/transition/cloud"
	"holdfast/internal/transition/platform"
)

// page is how many objects are asked for at once; services may give fewer.
const page = 500

// Collect logs in by the variables that cloud.From reads, with the role admin, and reads all. now is written as the
// document's time. Errors are those of cloud.Meet and cloud.Get.
func Collect(ctx context.Context, getenv func(string) string, now time.Time) (*platform.Platform, error) {
	c, err := cloud.Meet(ctx, getenv)
	if err != nil {
		return nil, err
	}
	region, face := getenv("OS_REGION_NAME"), strings.TrimSuffix(cmp.Or(getenv("OS_INTERFACE"), "public"), "URL")
	r := &reader{Cloud: c, ctx: ctx, p: &platform.Platform{
		Format: platform.Format, Time: now.UTC(), Auth: getenv("OS_AUTH_URL"), Region: region, Nova: fmt.Sprint("2.", c.Latest),
		Endpoints: []platform.Endpoint{}, Services: []platform.Service{}, Hosts: []platform.Host{},
		Aggregates: []platform.Aggregate{}, Pools: []platform.Pool{},
		VolumeTypes: []platform.VolumeType{}, Flavors: []platform.Flavor{}, Images: []platform.Image{},
	}}
	r.endpoints(region, face)
	for _, read := range []struct {
		what string
		from *gophercloud.ServiceClient
		do   func() error
	}{
		{"Nova's services", c.Nova, func() error { return r.services("compute", c.Nova, cloud.Base) }},
		{"hosts", c.Nova, r.hosts}, {"aggregates", c.Nova, r.aggregates}, {"flavors", c.Nova, r.flavors},
		{"Placement", c.Placement, r.placement}, {"Neutron's agents", c.Neutron, r.agents}, {"images", c.Glance, r.images},
		{"Cinder's services", c.Cinder, func() error { return r.services("volume", c.Cinder, 0) }},
		{"pools", c.Cinder, r.pools}, {"volume types", c.Cinder, r.volumeTypes},
	} {
		if read.from == nil {
			continue // the catalog has none, which the checks tell
		}
		if err := read.do(); err != nil {
			return nil, fmt.Errorf("read %s: %w", read.what, err)
		}
	}
	r.sort()
	return r.p, nil
}

type reader struct {
	*cloud.Cloud
	ctx context.Context
	p   *platform.Platform
}

// endpoints tries each endpoint without a login: any answer but an error of the server counts.
func (r *reader) endpoints(region, face string) {
	client := http.Client{Timeout: cloud.Answer, Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}}
	for _, e := range r.Endpoints {
		if region != "" && e.Region != region || e.Interface != face {
			continue
		}
		r.p.Endpoints = append(r.p.Endpoints, platform.Endpoint{Service: e.Service, Interface: e.Interface,
			Region: e.Region, URL: e.URL, Error: answers(r.ctx, &client, e.URL)})
	}
}

// answers tells why nothing answers at a URL; "": something does.
func answers(ctx context.Context, client *http.Client, at string) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return err.Error()
	}
	res, err := client.Do(req)
	if err != nil {
		return err.Error()
	}
	if err := res.Body.Close(); err != nil {
		return err.Error()
	}
	if res.StatusCode >= http.StatusInternalServerError {
		return res.Status
	}
	return ""
}

// pages reads a list to its end. next is the marker behind what one answer has, "" when there is no more.
func (r *reader) pages(from *gophercloud.ServiceClient, path string, version int, next func(body json.RawMessage) (string, error)) error {
	for marker := ""; ; {
		q := url.Values{"limit": {fmt.Sprint(page)}}
		if marker != "" {
			q.Set("marker", marker)
		}
		sep := "?"
		if strings.Contains(path, "?") {
			sep = "&"
		}
		var body json.RawMessage
		err := cloud.Get(r.ctx, from, path+sep+q.Encode(), version, &body)
		last := marker
		if err == nil {
			marker, err = next(body)
		}
		if err != nil || marker == "" {
			return err
		}
		if marker == last {
			return fmt.Errorf("%s: the list goes on with %s again and again", path, marker)
		}
	}
}

func (r *reader) services(of string, from *gophercloud.ServiceClient, version int) error {
	var got struct {
		Services []struct {
			Binary  string `json:"binary"`
			Host    string `json:"host"`
			Zone    string `json:"zone"`
			Status  string `json:"status"`
			State   string `json:"state"`
			Updated string `json:"updated_at"`
			Why     string `json:"disabled_reason"`
		} `json:"services"`
	}
	err := cloud.Get(r.ctx, from, "os-services", version, &got)
	for _, s := range got.Services {
		r.p.Services = append(r.p.Services, platform.Service{Of: of, Binary: s.Binary, Host: s.Host, Zone: s.Zone,
			Enabled: s.Status == "enabled", Up: s.State == "up", Seen: s.Updated, Why: s.Why})
	}
	return err
}

func (r *reader) agents() error {
	var got struct {
		Agents []struct {
			Binary string `json:"binary"`
			Host   string `json:"host"`
			Zone   string `json:"availability_zone"`
			Admin  bool   `json:"admin_state_up"`
			Alive  bool   `json:"alive"`
			Seen   string `json:"heartbeat_timestamp"`
		} `json:"agents"`
	}
	err := cloud.Get(r.ctx, r.Neutron, "agents", 0, &got)
	for _, a := range got.Agents {
		r.p.Services = append(r.p.Services, platform.Service{Of: "network", Binary: a.Binary, Host: a.Host,
			Zone: a.Zone, Enabled: a.Admin, Up: a.Alive, Seen: a.Seen})
	}
	return err
}

func (r *reader) hosts() error {
	var got struct {
		Hypervisors []struct {
			Node    string `json:"hypervisor_hostname"`
			Type    string `json:"hypervisor_type"`
			Version int    `json:"hypervisor_version"`
			State   string `json:"state"`
			Status  string `json:"status"`
			CPUs    int    `json:"vcpus"`
			Memory  int    `json:"memory_mb"`
			Used    int    `json:"memory_mb_used"`
			Guests  int    `json:"running_vms"`
			CPU     text   `json:"cpu_info"`
			Service struct {
				Host string `json:"host"`
			} `json:"service"`
		} `json:"hypervisors"`
	}
	err := cloud.Get(r.ctx, r.Nova, "os-hypervisors/detail", cloud.Base, &got)
	for _, h := range got.Hypervisors {
		r.p.Hosts = append(r.p.Hosts, platform.Host{Name: h.Service.Host, Node: h.Node, Type: h.Type,
			Version: h.Version, Up: h.State == "up", Enabled: h.Status == "enabled", CPUs: h.CPUs, Model: h.CPU.model(),
			Memory: h.Memory, Used: h.Used, Guests: h.Guests})
	}
	return err
}

// text is JSON in a string, as Nova keeps it of processors. Drivers write what they like.
type text string

// model is the name of the model in it; "": it has none.
func (t text) model() string {
	var cpu struct {
		Model string `json:"model"`
	}
	if json.Unmarshal([]byte(t), &cpu) != nil {
		return ""
	}
	return cpu.Model
}

// Versions of Nova's API that tell what Placement has to be compared with.
const (
	withAggregates = 41 // IDs of aggregates
	withServers    = 53 // IDs of hosts as Placement has them, and their servers
)

// placement compares what Placement has of each host with what Nova has of it.
func (r *reader) placement() error {
	if r.Latest < withServers {
		return nil
	}
	var aggregates struct {
		Aggregates []struct {
			Name  string   `json:"name"`
			ID    string   `json:"uuid"`
			Hosts []string `json:"hosts"`
		} `json:"aggregates"`
	}
	if err := cloud.Get(r.ctx, r.Nova, "os-aggregates", withAggregates, &aggregates); err != nil {
		return err
	}
	r.p.Providers = []platform.Provider{}
	return r.pages(r.Nova, "os-hypervisors/detail?with_servers=true", withServers, func(body json.RawMessage) (string, error) {
		var got struct {
			Hypervisors []struct {
				ID      string `json:"id"`
				Node    string `json:"hypervisor_hostname"`
				Type    string `json:"hypervisor_type"`
				Service struct {
					Host string `json:"host"`
				} `json:"service"`
				Servers []struct {
					ID string `json:"uuid"`
				} `json:"servers"`
			} `json:"hypervisors"`
		}
		if err := json.Unmarshal(body, &got); err != nil {
			return "", err
		}
		for _, h := range got.Hypervisors {
			if h.Type == "ironic" { // Nova tells all servers of the host, which has many nodes
				continue
			}
			x := platform.Provider{Host: h.Service.Host, Node: h.Node, Without: []string{}, NotIn: []string{}}
			guests, in, err := r.provider(h.ID)
			if x.There = err == nil; err != nil && !cloud.Absent(err) {
				return "", err
			}
			for _, s := range h.Servers {
				if _, has := guests[s.ID]; !has {
					x.Without = append(x.Without, s.ID)
				}
			}
			for _, a := range aggregates.Aggregates {
				if slices.Contains(a.Hosts, x.Host) && !slices.Contains(in, a.ID) {
					x.NotIn = append(x.NotIn, a.Name)
				}
			}
			slices.Sort(x.Without)
			slices.Sort(x.NotIn)
			r.p.Providers = append(r.p.Providers, x)
		}
		return marker(len(got.Hypervisors), func(i int) string { return got.Hypervisors[i].ID }), nil
	})
}

// provider tells what has an allocation on a provider of Placement, by UUID, and the UUIDs of its aggregates.
func (r *reader) provider(id string) (consumers map[string]json.RawMessage, in []string, err error) {
	var allocations struct {
		Allocations map[string]json.RawMessage `json:"allocations"`
	}
	var aggregates struct {
		Aggregates []string `json:"aggregates"`
	}
	at := "resource_providers/" + url.PathEscape(id)
	if err = cloud.Get(r.ctx, r.Placement, at+"/allocations", 0, &allocations); err == nil {
		err = cloud.Get(r.ctx, r.Placement, at+"/aggregates", 0, &aggregates)
	}
	return allocations.Allocations, aggregates.Aggregates, err
}

func (r *reader) aggregates() error {
	var got struct {
		Aggregates []struct {
			Name     string            `json:"name"`
			Zone     string            `json:"availability_zone"`
			Hosts    []string          `json:"hosts"`
			Metadata map[string]string `json:"metadata"`
		} `json:"aggregates"`
	}
	err := cloud.Get(r.ctx, r.Nova, "os-aggregates", cloud.Base, &got)
	for _, a := range got.Aggregates {
		slices.Sort(a.Hosts)
		r.p.Aggregates = append(r.p.Aggregates, platform.Aggregate{Name: a.Name, Zone: a.Zone,
			Hosts: append([]string{}, a.Hosts...), Metadata: a.Metadata})
	}
	return err
}

func (r *reader) flavors() error {
	return r.pages(r.Nova, "flavors/detail?is_public=None", cloud.Base, func(body json.RawMessage) (string, error) {
		var got struct {
			Flavors []struct {
				ID        string `json:"id"`
				Name      string `json:"name"`
				CPUs      int    `json:"vcpus"`
				Memory    int    `json:"ram"`
				Disk      int    `json:"disk"`
				Ephemeral int    `json:"OS-FLV-EXT-DATA:ephemeral"`
				Swap      number `json:"swap"`
				Public    bool   `json:"os-flavor-access:is_public"`
			} `json:"flavors"`
		}
		if err := json.Unmarshal(body, &got); err != nil {
			return "", err
		}
		for _, f := range got.Flavors {
			var more struct {
				Specs map[string]string `json:"extra_specs"`
			}
			if err := cloud.Get(r.ctx, r.Nova, "flavors/"+url.PathEscape(f.ID)+"/os-extra_specs", cloud.Base, &more); err != nil {
				return "", err
			}
			r.p.Flavors = append(r.p.Flavors, platform.Flavor{ID: f.ID, Name: f.Name, CPUs: f.CPUs, Memory: f.Memory,
				Disk: f.Disk, Ephemeral: f.Ephemeral, Swap: int(f.Swap), Public: f.Public, Specs: more.Specs})
		}
		return marker(len(got.Flavors), func(i int) string { return got.Flavors[i].ID }), nil
	})
}

// marker is the ID of the last one of a list, from which it may go on. A list is at its end when nothing comes.
func marker(n int, id func(int) string) string {
	if n == 0 {
		return ""
	}
	return id(n - 1)
}

func (r *reader) images() error {
	return r.pages(r.Glance, "images", 0, func(body json.RawMessage) (string, error) {
		var got struct {
			Images []struct {
				ID         string `json:"id"`
				Name       string `json:"name"`
				Status     string `json:"status"`
				Size       int64  `json:"size"`
				Checksum   string `json:"checksum"`
				Format     string `json:"disk_format"`
				Container  string `json:"container_format"`
				Visibility string `json:"visibility"`
				MinDisk    int    `json:"min_disk"`
				MinMemory  int    `json:"min_ram"`
			} `json:"images"`
		}
		if err := json.Unmarshal(body, &got); err != nil {
			return "", err
		}
		for _, i := range got.Images {
			r.p.Images = append(r.p.Images, platform.Image{ID: i.ID, Name: i.Name, Status: i.Status, Size: i.Size,
				Checksum: i.Checksum, Format: i.Format, Container: i.Container, Visibility: i.Visibility, MinDisk: i.MinDisk, MinMemory: i.MinMemory})
		}
		return marker(len(got.Images), func(i int) string { return got.Images[i].ID }), nil
	})
}

func (r *reader) pools() error {
	var got struct {
		Pools []struct {
			Name         string `json:"name"`
			Capabilities struct {
				Backend  string `json:"volume_backend_name"`
				Protocol any    `json:"storage_protocol"` // a string, or a list of them
				Total    size   `json:"total_capacity_gb"`
				Free     size   `json:"free_capacity_gb"`
			} `json:"capabilities"`
		} `json:"pools"`
	}
	err := cloud.Get(r.ctx, r.Cinder, "scheduler-stats/get_pools?detail=true", 0, &got)
	for _, x := range got.Pools {
		r.p.Pools = append(r.p.Pools, platform.Pool{Name: x.Name, Backend: x.Capabilities.Backend,
			Protocol: fmt.Sprint(x.Capabilities.Protocol), Total: float64(x.Capabilities.Total), Free: float64(x.Capabilities.Free)})
	}
	return err
}

func (r *reader) volumeTypes() error {
	return r.pages(r.Cinder, "types?is_public=None", 0, func(body json.RawMessage) (string, error) {
		var got struct {
			Types []struct {
				ID     string            `json:"id"`
				Name   string            `json:"name"`
				Public bool              `json:"is_public"`
				Specs  map[string]string `json:"extra_specs"`
			} `json:"volume_types"`
		}
		if err := json.Unmarshal(body, &got); err != nil {
			return "", err
		}
		for _, t := range got.Types {
			specs := t.Specs
			if specs == nil {
				specs = map[string]string{}
			}
			r.p.VolumeTypes = append(r.p.VolumeTypes, platform.VolumeType{Name: t.Name, Public: t.Public, Specs: specs})
		}
		return marker(len(got.Types), func(i int) string { return got.Types[i].ID }), nil
	})
}

func (r *reader) sort() {
	p := r.p
	slices.SortFunc(p.Services, func(a, b platform.Service) int {
		return cmp.Or(cmp.Compare(a.Of, b.Of), cmp.Compare(a.Binary, b.Binary), cmp.Compare(a.Host, b.Host))
	})
	slices.SortFunc(p.Hosts, func(a, b platform.Host) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Node, b.Node)) })
	slices.SortFunc(p.Providers, func(a, b platform.Provider) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Node, b.Node))
	})
	slices.SortFunc(p.Aggregates, func(a, b platform.Aggregate) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(p.Pools, func(a, b platform.Pool) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(p.VolumeTypes, func(a, b platform.VolumeType) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(p.Flavors, func(a, b platform.Flavor) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(p.Images, func(a, b platform.Image) int { return cmp.Compare(a.ID, b.ID) })
}

// number is a count, which Nova writes as "" where there is none.
type number int

// UnmarshalJSON reads a number or "".
func (n *number) UnmarshalJSON(text []byte) error {
	*n = 0
	if string(text) == `""` || string(text) == "null" {
		return nil
	}
	return json.Unmarshal(text, (*int)(n))
}

// size is a capacity in GiB, which Cinder writes as "infinite" or "unknown" where there is none: -1.
type size float64

// UnmarshalJSON reads a number or a word.
func (s *size) UnmarshalJSON(text []byte) error {
	*s = -1
	if strings.HasPrefix(string(text), `"`) || string(text) == "null" {
		return nil
	}
	return json.Unmarshal(text, (*float64)(s))
}
