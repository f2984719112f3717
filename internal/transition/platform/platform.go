// Package platform is what an OpenStack platform has: hosts, services, storage, flavors and images. It tells what is
// wrong with one, and what another one lacks. It asks nobody; package collect does.
package platform

import (
	"encoding/json"
	"fmt"
	"time"
)

// Format is the only format of what is written.
const Format = 1

// Platform is what one platform has. Lists are sorted, and none is nil.
type Platform struct {
	Format      int          `json:"format"`
	Time        time.Time    `json:"time"`
	Auth        string       `json:"auth"`   // URL of Keystone
	Region      string       `json:"region"` // "": the only one
	Nova        string       `json:"nova"`   // latest version of its API, such as 2.93
	Endpoints   []Endpoint   `json:"endpoints"`
	Services    []Service    `json:"services"`
	Hosts       []Host       `json:"hosts"`
	Aggregates  []Aggregate  `json:"aggregates"`
	Pools       []Pool       `json:"pools"`
	VolumeTypes []VolumeType `json:"volume_types"`
	Flavors     []Flavor     `json:"flavors"`
	Images      []Image      `json:"images"`
	Providers   []Provider   `json:"providers"` // null: the catalog has no Placement, or Nova's API is older than 2.53
}

// Endpoint is where Keystone's catalog says that a service is, in the region and of the interface that are asked.
type Endpoint struct {
	Service   string `json:"service"` // its type, such as compute
	Interface string `json:"interface"`
	Region    string `json:"region"`
	URL       string `json:"url"`
	Error     string `json:"error"` // why it does not answer; "": it does
}

// Service is one of Nova or Cinder, or an agent of Neutron.
type Service struct {
	Of      string `json:"of"` // compute, volume or network
	Binary  string `json:"binary"`
	Host    string `json:"host"`
	Zone    string `json:"zone"`
	Enabled bool   `json:"enabled"`
	Up      bool   `json:"up"`   // it has reported lately
	Seen    string `json:"seen"` // when it has reported last, as the service writes it; "": it is not told
	Why     string `json:"why"`  // it is disabled
}

// Host is one with guests.
type Host struct {
	Name    string `json:"name"`    // of its nova-compute
	Node    string `json:"node"`    // as the hypervisor says
	Type    string `json:"type"`    // of the hypervisor
	Version int    `json:"version"` // of the hypervisor, 1000000*major + 1000*minor + release
	Up      bool   `json:"up"`
	Enabled bool   `json:"enabled"`
	CPUs    int    `json:"cpus"`
	Model   string `json:"cpu_model"` // of its processors, as libvirt names it; "": it is not told
	Memory  int    `json:"memory_mib"`
	Used    int    `json:"memory_used_mib"`
	Guests  int    `json:"guests"`
}

// Aggregate is a set of hosts.
type Aggregate struct {
	Name     string            `json:"name"`
	Zone     string            `json:"zone"`
	Hosts    []string          `json:"hosts"`
	Metadata map[string]string `json:"metadata"`
}

// Provider is what Placement has of a host, beside what Nova has. Those of Ironic are left out.
type Provider struct {
	Host    string   `json:"host"`    // of its nova-compute
	Node    string   `json:"node"`    // as the hypervisor says
	There   bool     `json:"there"`   // Placement knows it
	Without []string `json:"without"` // UUIDs of its guests that have no allocation there
	NotIn   []string `json:"not_in"`  // names of Nova's aggregates that have the host, and in Placement do not
}

// Pool is one of a storage back end.
type Pool struct {
	Name     string  `json:"name"` // HOST@BACKEND#POOL
	Backend  string  `json:"backend"`
	Protocol string  `json:"protocol"`
	Total    float64 `json:"total_gib"` // -1: it does not tell, or has no limit
	Free     float64 `json:"free_gib"`  // -1: the same
}

// VolumeType is a kind of volumes.
type VolumeType struct {
	Name   string            `json:"name"`
	Public bool              `json:"public"`
	Specs  map[string]string `json:"specs"`
}

// Flavor is a size of guests.
type Flavor struct {
	ID        string            `json:"id"`
	Name      string            `json:"name"`
	CPUs      int               `json:"cpus"`
	Memory    int               `json:"memory_mib"`
	Disk      int               `json:"disk_gib"`
	Ephemeral int               `json:"ephemeral_gib"`
	Swap      int               `json:"swap_mib"`
	Public    bool              `json:"public"`
	Specs     map[string]string `json:"specs"`
}

// Image is what guests are made from.
type Image struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Status     string `json:"status"`
	Size       int64  `json:"size_bytes"`
	Checksum   string `json:"checksum"`
	Format     string `json:"format"` // of the disk
	Container  string `json:"container"`
	Visibility string `json:"visibility"`
	MinDisk    int    `json:"min_disk_gib"`
	MinMemory  int    `json:"min_memory_mib"`
}

// Read reads what `transition collect --out` has written. Errors name the field.
func Read(text []byte) (*Platform, error) {
	var p Platform
	if err := json.Unmarshal(text, &p); err != nil {
		return nil, fmt.Errorf("it is no result of transition collect: %w", err)
	}
	if p.Format != Format {
		return nil, fmt.Errorf("field format: value %d: want %d, what transition collect --out has written", p.Format, Format)
	}
	return &p, nil
}
