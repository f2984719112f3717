package upgrade

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
)

// Guests of several hosts may have one name. Each is known by its UUID; people call
// it HOST/NAME.

// policyFindings look for policies that name more than one VM.
func (b *builder) policyFindings() {
	for _, name := range slices.Sorted(maps.Keys(b.o.Policies)) {
		if twins := b.vms[name]; len(twins) > 1 {
			b.find(Finding{
				Rule: "policy", Level: Block, VM: name,
				Text:   "There is a policy for VM " + name + ", and " + hostsOf(twins) + " have one of that name each.",
				Remedy: fmt.Sprintf("name one of them: --policy %s=%s, or its UUID", twins[0].Place(), b.o.Policies[name]),
			})
		}
	}
}

// callable are all names by which a policy may mean VMs.
func callable(vms []inventory.VM) map[string]bool {
	named := map[string]bool{}
	for i := range vms {
		v := &vms[i]
		named[v.UUID], named[v.Place()], named[v.Name] = true, true, true
	}
	return named
}

// call is how a VM is named in --policy.
func (b *builder) call(v *inventory.VM) string {
	if len(b.vms[v.Name]) > 1 {
		return v.Place()
	}
	return v.Name
}

// hostsOf names the hosts of VMs: hosts h1 and h2.
func hostsOf(vms []*inventory.VM) string {
	var names []cluster.HostID
	for _, v := range vms {
		names = append(names, v.Host)
	}
	slices.Sort(names)
	last := len(names) - 1
	return "hosts " + joinHosts(names[:last]) + " and " + string(names[last])
}

// meant finds the VM of which a file tells, nil when there is none: by its UUID, or
// else by its name, with its host where several have that.
func meant(f *inventory.VM, byName map[string][]*inventory.VM) (*inventory.VM, error) {
	all := slices.DeleteFunc(slices.Clone(byName[f.Name]), func(v *inventory.VM) bool {
		return f.UUID != "" && v.UUID != "" && !strings.EqualFold(f.UUID, v.UUID)
	})
	if i := slices.IndexFunc(all, func(v *inventory.VM) bool { return f.UUID != "" && v.UUID != "" }); i >= 0 {
		return all[i], nil
	}
	if len(all) < 2 {
		return slices.Concat(all, []*inventory.VM{nil})[0], nil
	}
	if i := slices.IndexFunc(all, func(v *inventory.VM) bool { return v.Host == f.Host }); i >= 0 {
		return all[i], nil
	}
	return nil, fmt.Errorf("inventory: VM %q: %s have one of that name each: give its uuid, or the host where it is now", f.Name, hostsOf(all))
}

// namesOf lists VMs by their names.
func namesOf(vms []inventory.VM) map[string][]*inventory.VM {
	out := make(map[string][]*inventory.VM, len(vms))
	for i := range vms {
		out[vms[i].Name] = append(out[vms[i].Name], &vms[i])
	}
	return out
}
