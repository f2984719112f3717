package agent

import (
	"fmt"
	"testing"
)

// TestAddressOfTheManagementVM is what the agent says, not libvirt.
func TestAddressOfTheManagementVM(t *testing.T) {
	own := []string{"198.51.101.3", "203.0.113.9"}
	got, err := addresses("uuid-1", func() []string { return own }, nil)(t.Context(), "uuid-1")
	if err != nil || fmt.Sprint(got) != "[198.51.101.3 203.0.113.9]" {
		t.Errorf("%v, %v", got, err)
	}
	own = []string{"nonsense"}
	if got, err := addresses("uuid-1", func() []string { return own }, nil)(t.Context(), "uuid-1"); err == nil {
		t.Errorf("no address: %v", got)
	}
}
