package api

import (
	"google.golang.org/protobuf/reflect/protoreflect"

	apiv1 "holdfast/internal/api/v1"
)

// Files describe all services.
var Files = []protoreflect.FileDescriptor{apiv1.File_holdfast_proto, apiv1.File_upgrade_proto, apiv1.File_agent_proto,
	apiv1.File_pair_proto, apiv1.File_access_proto, apiv1.File_notification_proto, apiv1.File_host_proto, apiv1.File_screen_proto}
