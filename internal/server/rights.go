package server

import (
	"context"

	"holdfast/internal/api/v1/apiv1connect"
	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
)

// Hosts tells whether a name, of a certificate, is that of a host, and of one that runs
// guests only. An error means that it is not known yet.
type Hosts func(name string) (host, guestsOnly bool, err error)

// right says who may call a procedure, beside members and root of this host.
type right int

const (
	ofAdmins    right = iota // what gives rights, or takes them, and what nobody has sorted; a certificate that is no host's has them, too
	ofOperators              // what else changes the cluster
	ofAll                    // what only tells
	ofAgents                 // of hosts, those that run guests only among them
	ofHosts                  // of the same, but nobody while the hosts are not known
	ofMembers                // of members' agents: what has a host run programs, or read files, that the caller names
)

// rights has every procedure of the API. A host that runs guests only says to the store
// itself what it has to say (docs/adr/0026).
var rights = map[string]right{
	apiv1connect.ClusterServiceGetStatusProcedure:       ofAll,
	apiv1connect.ClusterServiceWatchStatusProcedure:     ofAll,
	apiv1connect.ClusterServiceStartProcedure:           ofOperators,
	apiv1connect.ClusterServiceStopProcedure:            ofOperators,
	apiv1connect.ClusterServiceMigrateProcedure:         ofOperators,
	apiv1connect.ClusterServiceCancelMigrationProcedure: ofOperators,
	apiv1connect.ClusterServiceListEventsProcedure:      ofAll,
	apiv1connect.ClusterServiceWatchEventsProcedure:     ofAll,
	apiv1connect.ClusterServiceConfirmOffProcedure:      ofOperators,
	apiv1connect.ClusterServiceSetMaintenanceProcedure:  ofOperators,
	apiv1connect.ClusterServiceGetStoreStatusProcedure:  ofOperators,
	apiv1connect.ClusterServiceBackUpStoreProcedure:     ofAdmins,
	apiv1connect.ClusterServiceGetVersionProcedure:      ofAll,
	apiv1connect.ClusterServiceGetConfigProcedure:       ofAdmins,
	apiv1connect.ClusterServiceListConfigsProcedure:     ofAdmins,
	apiv1connect.ClusterServiceImportConfigProcedure:    ofAdmins,
	apiv1connect.ClusterServiceResetPasswordProcedure:   ofAdmins,

	apiv1connect.ClusterServiceRenewCertificatesProcedure: ofAdmins,

	apiv1connect.JobServiceDrainHostProcedure:     ofOperators,
	apiv1connect.JobServiceRunTransitionProcedure: ofAdmins, // it has hosts run any program as root

	apiv1connect.JobServicePlanTransitionProcedure: ofAdmins,
	apiv1connect.JobServiceListSitesProcedure:      ofOperators, // other clusters are asked
	apiv1connect.JobServiceGetStepOutputProcedure:  ofOperators, // a host reads its log

	apiv1connect.JobServiceCompareFilesProcedure: ofAdmins, // it tells what a file of a host has
	apiv1connect.JobServiceWriteFilesProcedure:   ofAdmins,
	apiv1connect.JobServiceGetHostPortsProcedure: ofOperators,

	apiv1connect.JobServiceListHostsProcedure:  ofAll,
	apiv1connect.JobServiceListGuestsProcedure: ofAll,
	apiv1connect.JobServiceForgetHostProcedure: ofOperators,
	apiv1connect.JobServiceListJobsProcedure:   ofAll,
	apiv1connect.JobServiceGetJobProcedure:     ofAll,
	apiv1connect.JobServiceCommandJobProcedure: ofOperators,

	apiv1connect.UpgradeServicePutBundleProcedure:     ofOperators,
	apiv1connect.UpgradeServicePlanUpgradeProcedure:   ofOperators,
	apiv1connect.UpgradeServiceCheckUpgradeProcedure:  ofOperators,
	apiv1connect.UpgradeServiceRunUpgradeProcedure:    ofOperators,
	apiv1connect.UpgradeServiceGetUpgradeProcedure:    ofAll,
	apiv1connect.UpgradeServiceAdmitHostProcedure:     ofOperators,
	apiv1connect.UpgradeServiceReportUpgradeProcedure: ofOperators,

	apiv1connect.AgentServiceGetBundleProcedure:   ofAgents,
	apiv1connect.AgentServiceGatherFactsProcedure: ofMembers,
	apiv1connect.AgentServiceSendGuestProcedure:   ofAgents, // to the host that asks, for a job, see mayHave

	apiv1connect.AgentServiceSignCertificateProcedure: ofHosts,  // for the host that asks
	apiv1connect.AgentServiceGetCopyProcedure:         ofHosts,  // for the other node of a pair
	apiv1connect.AgentServiceGetRowsProcedure:         ofHosts,  // for the same
	apiv1connect.AgentServiceGetPeerStatusProcedure:   ofAgents, // for the same, whose name it looks at: also when the hosts are not known

	apiv1connect.AgentServiceServeScreenProcedure: ofMembers, // for a user of theirs

	apiv1connect.PairServiceGetPairProcedure:     ofAll,
	apiv1connect.PairServiceBeginPairProcedure:   ofAdmins,
	apiv1connect.PairServiceResolvePairProcedure: ofAdmins,

	apiv1connect.PairServiceAddPartitionProcedure:    ofOperators,
	apiv1connect.PairServiceRemovePartitionProcedure: ofOperators,

	apiv1connect.ScreenServiceOpenScreenProcedure: ofOperators, // who sees a screen can type there

	apiv1connect.AccessServiceListUsersProcedure:   ofAdmins,
	apiv1connect.AccessServiceSetUserProcedure:     ofAdmins,
	apiv1connect.AccessServiceRemoveUserProcedure:  ofAdmins,
	apiv1connect.AccessServiceListTokensProcedure:  ofAdmins,
	apiv1connect.AccessServiceCreateTokenProcedure: ofAdmins,
	apiv1connect.AccessServiceRevokeTokenProcedure: ofAdmins,

	apiv1connect.NotificationServiceListNotificationsProcedure: ofAll,
	apiv1connect.NotificationServiceTestNotificationProcedure:  ofOperators,

	apiv1connect.HostServiceGetHostLogProcedure: ofOperators,
	apiv1connect.HostServiceTestFenceProcedure:  ofOperators,
	apiv1connect.HostServiceGetReportProcedure:  ofAdmins,
}

// roles has the least role by which a user or a token may call what has a right; what is not there only certificates may.
var roles = map[right]cluster.Role{ofAll: cluster.Viewer, ofOperators: cluster.Operator, ofAdmins: cluster.Admin}

type guestKey struct{}

// limit refuses what the name in a certificate gives no right to, and notes the name of a
// host that runs guests only, or may be one. Local callers are root.
func limit(ctx context.Context, hosts Hosts, who peer, procedure string) (context.Context, error) {
	if who.role != "" {
		need, ok := roles[rights[procedure]]
		if ok && who.role.May(need) {
			return ctx, nil
		}
		if !ok {
			return ctx, fail.Errorf(fail.Denied, "not allowed: only hosts may call %s", procedure)
		}
		return ctx, fail.Errorf(fail.Denied, "not allowed: %s has the role %s, and %s is needed", who.user, who.role, need).
			With("ask an admin")
	}
	if hosts == nil || who.pid != 0 {
		return ctx, nil
	}
	host, guestsOnly, err := hosts(who.user)
	of := rights[procedure]
	switch {
	case err != nil && (of == ofAdmins || of == ofOperators || of == ofHosts || of == ofMembers):
		return ctx, fail.Errorf(fail.Unavailable, "whether %s is a host, or one that runs guests only, is not "+
			"known yet: %w", who.user, err).With("ask again in some seconds")
	case err == nil && guestsOnly && (of == ofAdmins || of == ofOperators || of == ofMembers):
		return ctx, fail.Errorf(fail.Denied, "not allowed: %s is a host that runs guests only, and may not call %s", who.user, procedure).
			With("use an operator's certificate, or run the command on a member")
	case err == nil && !host && (of == ofAgents || of == ofHosts || of == ofMembers):
		return ctx, fail.Errorf(fail.Denied, "not allowed: %s is no host of this cluster, and only the agents of "+
			"hosts may call %s", who.user, procedure)
	case err == nil && !guestsOnly:
		return ctx, nil
	}
	return context.WithValue(ctx, guestKey{}, cluster.HostID(who.user)), nil
}

// mayHave refuses to send a guest to another host than the one that asks for it, where
// the caller is limited.
func mayHave(ctx context.Context, to cluster.HostID) (limited bool, err error) {
	host, limited := ctx.Value(guestKey{}).(cluster.HostID)
	if limited && host != to {
		return true, fail.Errorf(fail.Denied, "not allowed: %s is a host that runs guests only, and may ask for "+
			"guests for itself, not for %s", host, to)
	}
	return limited, nil
}

// LeastRole is the least role by which a user or a token may call a procedure; false where only certificates may.
func LeastRole(procedure string) (cluster.Role, bool) {
	of, listed := rights[procedure]
	role, is := roles[of]
	return role, listed && is
}
