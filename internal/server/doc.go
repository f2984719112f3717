// Package server serves an agent's API: on a unix socket to root, and over TLS
// to clients with a certificate of the cluster. It knows who calls, checks what
// a request says against the status, records requests through the Cluster it is
// given, and reports. It decides nothing: what becomes of a recorded request is
// the agent's matter.
package server
