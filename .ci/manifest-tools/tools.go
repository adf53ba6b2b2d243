// Package tools names what .ci/manifests builds, so that go.mod and go.sum pin all of it: kustomize renders the
// overlays, kubeconform judges them, controller-gen writes the definitions of the Prometheus operator's resources from
// its types, and compose-go reads the compose file as docker compose does.
package tools

import (
	_ "github.com/compose-spec/compose-go/v2/types"
	_ "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
)
