package rest

import "google.golang.org/protobuf/reflect/protoreflect"

func makeDocument() []byte { return []byte("{}") }

func comment(protoreflect.FullName) string { return "" }
