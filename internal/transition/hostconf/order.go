package hostconf

import (
	"encoding/json"
	"fmt"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/job"
	"holdfast/internal/transition"
)

// KindFiles is the kind of a step, with Args as arguments, that writes files of its host, or
// takes that back.
const KindFiles = "config-files"

// Job is the kind of the job that does it, host by host.
const Job job.Kind = "config-files"

// Answer is what a host says of the files that it is to have.
type Answer struct {
	Set   string     `json:"set,omitempty"` // names the files where they were kept
	Files []Compared `json:"files"`         // in the order of the question
}

// Compared is a file as a host has it, beside how it is to be.
type Compared struct {
	Path    string `json:"path"`
	Same    bool   `json:"same"`
	Was     string `json:"was"`               // content, mode and owner as a host tells two apart; "": there is none
	Before  string `json:"before,omitempty"`  // mode and owner, such as "0640 0:64055"; "": there is no file
	After   string `json:"after,omitempty"`   // as they are to be
	Old     string `json:"old,omitempty"`     // content that it has
	Hidden  string `json:"hidden,omitempty"`  // why Old is not told
	Problem string `json:"problem,omitempty"` // why it can not be written
}

// Order says which hosts write which files.
type Order struct {
	Title string      `json:"title"` // of the job
	Back  string      `json:"back"`  // a job whose files are taken back; "": files are written
	Hosts []HostOrder `json:"hosts"`
}

// HostOrder is the part of one host.
type HostOrder struct {
	Name cluster.HostID `json:"name"`
	Set  string         `json:"set"` // Answer.Set
	Was  []string       `json:"was"` // Compared.Was of all files of the set
}

// Args are the arguments of KindFiles.
type Args struct {
	Title string   `json:"title"`
	Set   string   `json:"set,omitempty"`
	Was   []string `json:"was,omitempty"`
	Back  string   `json:"back,omitempty"` // job
}

// stepTime bounds a step: some files are written.
const stepTime = 10 * time.Minute

// Plan makes the plan of an order: one host after the other.
func (o *Order) Plan() (*transition.Plan, error) {
	p := &transition.Plan{Name: o.Title}
	for _, h := range o.Hosts {
		args, err := json.Marshal(Args{Title: o.Title, Set: h.Set, Was: h.Was, Back: o.Back})
		if err != nil {
			return nil, fmt.Errorf("write the files of %s: %w", h.Name, err)
		}
		p.Steps = append(p.Steps, transition.Step{
			ID: string(h.Name) + "/files", Stage: "files", Host: h.Name, Timeout: stepTime, Again: true, Kind: KindFiles, Args: args,
		})
	}
	return p, nil
}
