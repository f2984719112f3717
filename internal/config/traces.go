package config

import (
	"net/url"
	"strconv"
	"strings"
)

// Traces is where this host's agent sends spans of requests and jobs, by OTLP over HTTP.
type Traces struct {
	Endpoint  string   `json:"endpoint"`             // of the collector, http(s)://HOST:4318; with a path, spans go there, else to /v1/traces
	CA        string   `json:"ca,omitempty"`         // PEM file, who has signed the collector's certificate; default: those the system trusts
	TokenFile string   `json:"token_file,omitempty"` // has the token that the collector wants, as a bearer's
	Sample    *float64 `json:"sample,omitempty"`     // share of requests that are told, 0 to 1; default 1. Jobs always are
}

// Share is the share of requests that are told.
func (t Traces) Share() float64 {
	if t.Sample == nil {
		return 1
	}
	return *t.Sample
}

func (c *checker) traces(t *Traces) {
	if t == nil {
		return
	}
	u, err := url.Parse(t.Endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Port() != "" && !isPort(u.Port()) ||
		u.User != nil || u.RawQuery != "" || u.Fragment != "" || len(t.Endpoint) > 512 {
		c.fault("traces.endpoint", noUser(t.Endpoint), "want where the collector takes OTLP by HTTP, such as https://192.0.2.9:4318")
	} else if u.Scheme == "http" && t.TokenFile != "" {
		c.fault("traces.endpoint", t.Endpoint, "want https:// with traces.token_file: the token would be readable on its way")
	}
	if t.CA != "" {
		c.absolute("traces.ca", t.CA)
	}
	if t.TokenFile != "" {
		c.absolute("traces.token_file", t.TokenFile)
	}
	if s := t.Share(); s < 0 || s > 1 {
		c.fault("traces.sample", strconv.FormatFloat(s, 'g', -1, 64), "want a share from 0 to 1")
	}
}

// noUser is an address without what stands before its host: that may be a password.
func noUser(text string) string {
	if i := strings.LastIndex(text, "@"); i >= 0 {
		return "...@" + text[i+1:]
	}
	return text
}
