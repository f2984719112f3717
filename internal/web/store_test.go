package web

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
)

// TestStorePage: members, backups and certificates are shown as the commands tell them, trouble first; orders are the admin's.
func TestStorePage(t *testing.T) {
	x := newSite(t)
	x.cluster.SetStore(cluster.StoreStatus{Generation: 3, Members: []cluster.StoreMember{
		{Name: "node1", Reachable: true, Leader: true, Version: "3.6.5", Size: 3 << 20, Quota: 2 << 30, Alarms: []string{"<script>"}},
		{Name: "node2"}}, Backups: []cluster.Backup{{File: "/var/lib/x.snap", Time: time.Unix(1_800_000_000, 0), Size: 1 << 20, Revision: 77}}})
	at := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	x.up.Jobs.Reported = []inventory.Summary{
		{Name: "node1", Up: true, Certificates: []inventory.Certificate{
			{Which: "agent", State: inventory.CertValid, Serial: "later", Ends: at.AddDate(1, 0, 0)},
			{Which: "memory", State: inventory.CertValid, Serial: "sooner", Ends: at}}},
		{Name: "node2", Certificates: []inventory.Certificate{{Which: "agent", State: inventory.CertValid, Serial: "trouble",
			Ends: at.AddDate(5, 0, 0), Problem: "<script>"}}}}
	code, body, _ := x.get(x.as("the-operator"), "/store")
	if code != http.StatusOK || strings.Contains(body, "<script>\n") || strings.Contains(body, `action="/store`) {
		t.Errorf("%d: %s", code, body)
	}
	for i, want := range []string{"3.0 MiB", "away", "alarm &lt;script&gt;", "node2: it does not answer", "/var/lib/x.snap",
		"2 (generation 3)", "trouble", "sooner", "later"} {
		if j := strings.Index(body, want); j < 0 {
			t.Errorf("%d: %s is not there", i, want)
		} else {
			body = body[j:]
		}
	}
	admin := x.as("the-admin")
	if _, body, _ := x.get(admin, "/store"); strings.Count(body, `action="/hosts/node1/certificates"`) != 2 ||
		strings.Contains(body, `action="/hosts/node2/certificates"`) {
		t.Errorf("renewals are offered for hosts that are not heard, or for none: %s", body)
	}
	if code, body, to := x.post(admin, "/store/backups"); code != http.StatusSeeOther || to != "/store" {
		t.Errorf("%d: %s", code, body)
	}
}
