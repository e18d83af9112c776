{{/* Names and labels. A component is a Deployment or the like: `gateway`, `crawler-worker`, `mongodb`. */}}

{{- define "twin.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains "twin" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-twin" .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* (list $ COMPONENT) */}}
{{- define "twin.name" -}}
{{- printf "%s-%s" (include "twin.fullname" (index . 0)) (index . 1) -}}
{{- end -}}

{{/* (list $ COMPONENT): the name that stands for it within the cluster. */}}
{{- define "twin.host" -}}
{{- $root := index . 0 -}}
{{- printf "%s.%s.svc.%s" (include "twin.name" .) $root.Release.Namespace $root.Values.clusterDomain -}}
{{- end -}}

{{- define "twin.selector" -}}
app.kubernetes.io/name: twin
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "twin.labels" -}}
{{ include "twin.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
app.kubernetes.io/part-of: twin
helm.sh/chart: {{ printf "%s-%s" (index . 0).Chart.Name (index . 0).Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* (list $ SERVICE) */}}
{{- define "twin.image" -}}
{{- $root := index . 0 -}}
{{- $tag := default $root.Chart.AppVersion $root.Values.image.tag -}}
{{- get $root.Values.image.references (index . 1) | default (printf "%s/twin-%s:%s" $root.Values.image.registry (index . 1) $tag) -}}
{{- end -}}

{{- define "twin.secret" -}}
{{- .Values.secrets.existing | default (include "twin.fullname" .) -}}
{{- end -}}

{{/* What every pod is allowed: Pod Security `restricted`, and no writing but where a volume is. */}}
{{- define "twin.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "twin.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* (dict "root" $ "component" COMPONENT "annotations" ANNOTATIONS) */}}
{{- define "twin.annotatedAccount" -}}
{{- $it := list .root .component -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "twin.name" $it }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "twin.labels" $it | nindent 4 }}
  {{- with .annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
# None of Twin's pods talks to Kubernetes.
automountServiceAccountToken: false
{{- end -}}

{{/* (list $ COMPONENT …) */}}
{{- define "twin.serviceAccount" -}}
{{- include "twin.annotatedAccount" (dict "root" (index . 0) "component" (index . 1)) -}}
{{- end -}}

{{/* ── Settings ────────────────────────────────────────────────────────────────────────────────── */}}

{{/* (list $ NAME SECRET KEY) */}}
{{- define "twin.fromSecret" -}}
- name: {{ index . 1 }}
  valueFrom: {secretKeyRef: {name: {{ index . 2 }}, key: {{ index . 3 }}}}
{{- end -}}

{{- define "twin.env.documents" -}}
{{- if .Values.documents.bundled }}
{{- if .Values.stores.mongodb.auth }}
{{ include "twin.fromSecret" (list . "TWIN_MONGODB_PASSWORD" (include "twin.secret" .) "mongodb-password") }}
- name: TWIN_DOCUMENTS_URL
  value: mongodb://twin:$(TWIN_MONGODB_PASSWORD)@{{ include "twin.host" (list . "mongodb") }}:27017/twin?authSource=admin
{{- else }}
- name: TWIN_DOCUMENTS_URL
  value: mongodb://{{ include "twin.host" (list . "mongodb") }}:27017/twin
{{- end }}
{{- else }}
{{ include "twin.fromSecret" (list . "TWIN_DOCUMENTS_URL" .Values.documents.urlSecret.name .Values.documents.urlSecret.key) }}
{{- end }}
{{- end -}}

{{- define "twin.env.index" -}}
{{- if .Values.index.bundled }}
{{ include "twin.fromSecret" (list . "TWIN_WEAVIATE_KEY" (include "twin.secret" .) "weaviate-key") }}
- name: TWIN_INDEX_URL
  value: weaviate://:$(TWIN_WEAVIATE_KEY)@{{ include "twin.host" (list . "weaviate") }}:8080?grpc_port=50051
{{- else }}
{{ include "twin.fromSecret" (list . "TWIN_INDEX_URL" .Values.index.urlSecret.name .Values.index.urlSecret.key) }}
{{- end }}
{{- end -}}

{{- define "twin.env.redisPassword" -}}
{{- if .Values.redis.bundled }}
{{ include "twin.fromSecret" (list . "TWIN_REDIS_PASSWORD" (include "twin.secret" .) "redis-password") }}
{{- end }}
{{- end -}}

{{- define "twin.env.queue" -}}
{{- include "twin.env.redisPassword" . }}
{{- if .Values.redis.bundled }}
- name: TWIN_QUEUE_URL
  value: redis://:$(TWIN_REDIS_PASSWORD)@{{ include "twin.host" (list . "redis") }}:6379/0
{{- else }}
{{ include "twin.fromSecret" (list . "TWIN_QUEUE_URL" .Values.redis.queueUrlSecret.name .Values.redis.queueUrlSecret.key) }}
{{- end }}
{{- end -}}

{{- define "twin.env.limits" -}}
{{- include "twin.env.redisPassword" . }}
{{- if .Values.redis.bundled }}
- name: TWIN_LIMITS_URL
  value: redis://:$(TWIN_REDIS_PASSWORD)@{{ include "twin.host" (list . "redis") }}:6379/1
{{- else }}
{{ include "twin.fromSecret" (list . "TWIN_LIMITS_URL" .Values.redis.limitsUrlSecret.name .Values.redis.limitsUrlSecret.key) }}
{{- end }}
{{- end -}}

{{- define "twin.env.encoder" -}}
- name: TWIN_ENCODER_URL
{{- if .Values.tei.encoder.enabled }}
  value: tei+http://{{ include "twin.host" (list . "tei-encoder") }}:8080
{{- else }}
  value: {{ .Values.encoder.url | quote }}
{{- end }}
{{- end -}}

{{- define "twin.env.reranker" -}}
- name: TWIN_RERANKER_URL
{{- if .Values.tei.reranker.enabled }}
  value: tei+http://{{ include "twin.host" (list . "tei-reranker") }}:8080
{{- else }}
  value: {{ .Values.reranker.url | quote }}
{{- end }}
{{- end -}}

{{- define "twin.env.llm" -}}
{{- if and .Values.tgi.enabled .Values.vllm.enabled }}{{ fail "tgi.enabled and vllm.enabled: enable one of them" }}{{ end -}}
- name: TWIN_LLM_URL
{{- if .Values.tgi.enabled }}
  value: tgi+http://{{ include "twin.host" (list . "tgi") }}:8080?model={{ .Values.tgi.model }}
{{- else if .Values.vllm.enabled }}
  value: openai+http://{{ include "twin.host" (list . "vllm") }}:8000/v1?model={{ .Values.vllm.model }}&window={{ .Values.vllm.maxTotalTokens }}
{{- else }}
  value: {{ .Values.llm.url | quote }}
{{- end }}
{{- with .Values.llm.candidateUrl }}
- name: TWIN_LLM_CANDIDATE_URL
  value: {{ . | quote }}
- name: TWIN_LLM_CANDIDATE_SHARE
  value: {{ $.Values.llm.candidateShare | quote }}
{{- end }}
{{- end -}}

{{/* (list $ SERVICE): where it is found. */}}
{{- define "twin.env.address" -}}
{{- $ports := dict "crawler" 50051 "feature" 50052 "retriever" 50053 "generator" 50054 -}}
- name: TWIN_{{ upper (index . 1) }}_ADDRESS
  value: dns:///{{ include "twin.host" . }}:{{ get $ports (index . 1) }}
{{- end -}}

{{/* (list $ SETTINGS…), the last ones win */}}
{{- define "twin.env.settings" -}}
{{- $all := dict -}}
{{- range rest . }}{{ $all = merge (deepCopy (. | default dict)) $all }}{{ end -}}
{{- range $name, $value := $all }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

{{/* ── Pods ────────────────────────────────────────────────────────────────────────────────────── */}}

{{/* (dict "root" $ "values" VALUES "component" … "spread" BOOL "worker" BOOL): where a pod runs. */}}
{{- define "twin.placing" -}}
{{- $pods := .root.Values.pods -}}
{{- with ternary $pods.workerPriorityClassName $pods.priorityClassName (.worker | default false) }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector | default $pods.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations | default $pods.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- if .spread }}
topologySpreadConstraints:
{{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: {{ $pods.topologySpread.maxSkew }}
    topologyKey: {{ . }}
    whenUnsatisfiable: {{ $pods.topologySpread.whenUnsatisfiable }}
    labelSelector:
      matchLabels: {{- include "twin.selector" (list $.root $.component) | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
{{- end }}
{{- end }}
{{- end -}}

{{/* (list $ HOST:PORT…): until the bundled stores answer; a service that finds none ends, and is restarted ever more
slowly. */}}
{{- define "twin.waiting" -}}
{{- $root := index . 0 -}}
- name: wait-for-stores
  image: {{ include "twin.image" (list $root (index . 1)) }}
  imagePullPolicy: {{ $root.Values.image.pullPolicy }}
  command:
    - python
    - -c
    - |
      import socket, sys, time
      for each in sys.argv[1:]:
          host, _, port = each.rpartition(":")
          while True:
              try:
                  socket.create_connection((host, int(port)), 2).close()
                  break
              except OSError as error:
                  print(f"waiting for {each}: {error}", file=sys.stderr, flush=True)
                  time.sleep(1)
    {{- range slice . 2 }}
    - {{ . }}
    {{- end }}
  securityContext: {{- include "twin.containerSecurity" $root | nindent 4 }}
  resources:
    requests: {cpu: 10m, memory: 32Mi, ephemeral-storage: 8Mi}
    limits: {memory: 64Mi, ephemeral-storage: 16Mi}
{{- end -}}

{{/* (list $ "documents" "index" "redis"…) → {"at": [HOST:PORT…]} of those that are bundled */}}
{{- define "twin.bundled" -}}
{{- $root := index . 0 -}}
{{- $at := list -}}
{{- if and (has "documents" .) $root.Values.documents.bundled }}{{ $at = append $at (printf "%s:27017" (include "twin.host" (list $root "mongodb"))) }}{{ end -}}
{{- if and (has "index" .) $root.Values.index.bundled }}{{ $at = append $at (printf "%s:8080" (include "twin.host" (list $root "weaviate"))) }}{{ end -}}
{{- if and (has "redis" .) $root.Values.redis.bundled }}{{ $at = append $at (printf "%s:6379" (include "twin.host" (list $root "redis"))) }}{{ end -}}
{{- dict "at" $at | toJson -}}
{{- end -}}

{{/*
One of the five services, or its workers:

    root, component, values    values: its section
    service                    which image and module
    port, metrics              of its gRPC (the gateway: HTTP), of /metrics
    needs                      of "documents" "index" "redis": what is waited for where it is bundled
    env                        its settings, as YAML
    fixed                      replicas are the autoscaler's where false
    worker                     it can wait
    tmp                        how large its /tmp may be
*/}}
{{- define "twin.deployment" -}}
{{- $root := .root -}}
{{- $values := .root.Values -}}
{{- $name := include "twin.name" (list .root .component) -}}
{{- $http := eq .service "gateway" -}}
{{- $probed := ternary 50060 .port (and $values.mtls.enabled (not $http)) -}}
{{- $settings := (get (dict "crawler-worker" $values.crawler "feature-worker" $values.feature) .component | default dict).settings -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{- include "twin.labels" (list .root .component) | nindent 4 }}
spec:
  {{- if .fixed }}
  replicas: {{ .values.replicas }}
  {{- end }}
  minReadySeconds: {{ $values.drain.settleSeconds }}
  revisionHistoryLimit: 5
  strategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  selector:
    matchLabels: {{- include "twin.selector" (list .root .component) | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "twin.labels" (list .root .component) | nindent 8 }}
        {{- with $values.pods.labels }}{{ toYaml . | nindent 8 }}{{ end }}
      annotations:
        kubectl.kubernetes.io/default-container: {{ .service }}
        {{- if $values.monitoring.annotations }}
        prometheus.io/scrape: "true"
        prometheus.io/port: {{ .metrics | quote }}
        {{- end }}
        {{- with $values.pods.annotations }}{{ toYaml . | nindent 8 }}{{ end }}
    spec:
      serviceAccountName: {{ $name }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      {{- with $values.image.pullSecrets }}
      imagePullSecrets: {{- range . }}
        - name: {{ . }}
        {{- end }}
      {{- end }}
      securityContext: {{- include "twin.podSecurity" $root | nindent 8 }}
      # preStop, linger and drain one after the other, and some seconds to close the stores.
      terminationGracePeriodSeconds: {{ add $values.drain.preStopSeconds $values.drain.lingerSeconds $values.drain.seconds 15 }}
      # Names with dots are asked for as they are first: the crawler asks for thousands.
      dnsConfig: {options: [{name: ndots, value: "2"}]}
      {{- include "twin.placing" (dict "root" $root "values" .values "component" .component "spread" true "worker" .worker) | nindent 6 }}
      {{- $stores := include "twin.bundled" (concat (list $root) .needs) | fromJson }}
      {{- if or $stores.at $values.develop }}
      initContainers:
        {{- if $values.develop }}
        - name: copy-code
          image: {{ include "twin.image" (list $root .service) }}
          imagePullPolicy: {{ $values.image.pullPolicy }}
          command: [cp, -R, /opt/app/., /code]
          securityContext: {{- include "twin.containerSecurity" $root | nindent 12 }}
          resources:
            requests: {cpu: 10m, memory: 32Mi, ephemeral-storage: 64Mi}
            limits: {memory: 64Mi, ephemeral-storage: 256Mi}
          volumeMounts:
            - {name: code, mountPath: /code}
        {{- end }}
        {{- if $stores.at }}
        {{- include "twin.waiting" (concat (list $root .service) $stores.at) | nindent 8 }}
        {{- end }}
      {{- end }}
      containers:
        - name: {{ .service }}
          image: {{ include "twin.image" (list $root .service) }}
          imagePullPolicy: {{ $values.image.pullPolicy }}
          {{- if $values.develop }}
          # A service that is ended starts anew with the code that is there then; ending the container would have Kubernetes
          # wait longer each time.
          command:
            - /bin/sh
            - -c
            - |
              trap 'kill -TERM "$child"; wait "$child"; exit' TERM INT
              while :; do
                python -m services.{{ .service }} & child=$!
                echo "$child" > /tmp/child
                wait "$child"
                sleep 1
              done
          {{- else }}
          command: [python, -m, services.{{ .service }}]
          {{- end }}
          env:
            - {name: HOME, value: /tmp}
            - {name: TWIN_DATA_DIR, value: /tmp/twin}
            - {name: TWIN_DRAIN_SECONDS, value: {{ $values.drain.seconds | quote }}}
            - {name: TWIN_DRAIN_LINGER_SECONDS, value: {{ $values.drain.lingerSeconds | quote }}}
            - {name: TWIN_{{ upper .service }}_METRICS, value: {{ printf "%s:%v" $values.listen .metrics | quote }}}
            {{- if not $http }}
            - {name: TWIN_{{ upper .service }}_ADDRESS, value: {{ printf "%s:%v" $values.listen .port | quote }}}
            {{- end }}
            {{- if $values.mtls.enabled }}
            - {name: TWIN_TLS_CERTIFICATE, value: /etc/twin/tls/tls.crt}
            - {name: TWIN_TLS_KEY, value: /etc/twin/tls/tls.key}
            - {name: TWIN_TLS_AUTHORITY, value: /etc/twin/tls/ca.crt}
            {{- if not $http }}
            # Probes have no certificate.
            - {name: TWIN_HEALTH_ADDRESS, value: {{ printf "%s:50060" $values.listen | quote }}}
            {{- end }}
            {{- end }}
            {{- with $values.telemetry.endpoint }}
            - {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ . | quote }}}
            - name: POD_NAME
              valueFrom: {fieldRef: {fieldPath: metadata.name}}
            - {name: OTEL_RESOURCE_ATTRIBUTES, value: {{ printf "service.instance.id=$(POD_NAME),service.namespace=%s" $root.Release.Namespace | quote }}}
            {{- end }}
            {{- .env | trim | nindent 12 }}
            {{- include "twin.env.settings" (list $root $values.settings $settings .values.settings) | trim | nindent 12 }}
          {{- with $values.settingsSecret }}
          envFrom:
            - secretRef: {name: {{ . }}}
          {{- end }}
          ports:
            - {name: {{ ternary "http" "grpc" $http }}, containerPort: {{ .port }}}
            - {name: metrics, containerPort: {{ .metrics }}}
          # Started: it listens. Alive: it answers, whether its stores do or not. Ready: its stores do.
          {{- if $http }}
          startupProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 2, timeoutSeconds: 3, failureThreshold: 90}
          livenessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 6}
          readinessProbe: {httpGet: {path: /readyz, port: http}, periodSeconds: 3, timeoutSeconds: 5, failureThreshold: 2}
          {{- else }}
          startupProbe: {grpc: {port: {{ $probed }}, service: alive}, periodSeconds: 2, timeoutSeconds: 3, failureThreshold: 90}
          livenessProbe: {grpc: {port: {{ $probed }}, service: alive}, periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 6}
          readinessProbe: {grpc: {port: {{ $probed }}}, periodSeconds: 3, timeoutSeconds: 5, failureThreshold: 2}
          {{- end }}
          lifecycle: {preStop: {sleep: {seconds: {{ $values.drain.preStopSeconds }}}}}
          securityContext: {{- include "twin.containerSecurity" $root | nindent 12 }}
          resources: {{- toYaml .values.resources | nindent 12 }}
          volumeMounts:
            - {name: tmp, mountPath: /tmp}
            {{- if $values.develop }}
            - {name: code, mountPath: /opt/app}
            {{- end }}
            {{- if $values.mtls.enabled }}
            - {name: tls, mountPath: /etc/twin/tls, readOnly: true}
            {{- end }}
      volumes:
        - name: tmp
          emptyDir: {sizeLimit: {{ .tmp }}}
        {{- if $values.develop }}
        - name: code
          emptyDir: {sizeLimit: 256Mi}
        {{- end }}
        {{- if $values.mtls.enabled }}
        - name: tls
          secret: {secretName: {{ include "twin.name" (list $root .service) }}-tls, defaultMode: 0440}
        {{- end }}
{{- end -}}

{{/* (list $ COMPONENT PORT METRICS): every pod's address under one name, for round_robin. */}}
{{- define "twin.headless" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "twin.name" . }}
  namespace: {{ (index . 0).Release.Namespace }}
  labels: {{- include "twin.labels" . | nindent 4 }}
spec:
  clusterIP: None
  # Clients ask each pod themselves whether it serves. They learn of one while it starts, and go on looking for it until it
  # does: who looked only just before it was ready would else know none but the pod that ends next.
  publishNotReadyAddresses: true
  selector: {{- include "twin.selector" . | nindent 4 }}
  ports:
    - {name: grpc, port: {{ index . 2 }}, targetPort: grpc, appProtocol: kubernetes.io/h2c}
    - {name: metrics, port: {{ index . 3 }}, targetPort: metrics}
{{- end -}}

{{/* (list $ COMPONENT REPLICAS SCALED): where there is one pod, a budget would only block the node's drain. */}}
{{- define "twin.budget" -}}
{{- if or (gt (int (index . 2)) 1) (index . 3) }}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "twin.name" . }}
  namespace: {{ (index . 0).Release.Namespace }}
  labels: {{- include "twin.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels: {{- include "twin.selector" . | nindent 6 }}
{{- end }}
{{- end -}}

{{/* ── Stores ──────────────────────────────────────────────────────────────────────────────────── */}}

{{/* (list $ COMPONENT PORTS): one address that answers only while its pod is ready. */}}
{{- define "twin.storeService" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "twin.name" . }}
  namespace: {{ (index . 0).Release.Namespace }}
  labels: {{- include "twin.labels" . | nindent 4 }}
spec:
  selector: {{- include "twin.selector" . | nindent 4 }}
  ports:
    {{- range index . 2 }}
    - {name: {{ .name }}, port: {{ .port }}, targetPort: {{ .name }}}
    {{- end }}
{{- end -}}

{{/* (list $ SIZE) */}}
{{- define "twin.storeClaims" -}}
{{- $stores := (index . 0).Values.stores -}}
persistentVolumeClaimRetentionPolicy: {whenDeleted: {{ ternary "Retain" "Delete" $stores.keep }}, whenScaled: Retain}
volumeClaimTemplates:
  - metadata: {name: data}
    spec:
      accessModes: [ReadWriteOnce]
      {{- with $stores.storageClass }}
      storageClassName: {{ . }}
      {{- end }}
      resources: {requests: {storage: {{ index . 1 }}}}
{{- end -}}

{{/* (list $ COMPONENT): what pods have that run an image of others. */}}
{{- define "twin.storePod" -}}
{{- $root := index . 0 -}}
serviceAccountName: {{ include "twin.name" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets: {{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
securityContext: {{- include "twin.podSecurity" $root | nindent 2 }}
{{- include "twin.placing" (dict "root" $root "values" dict "component" (index . 1)) }}
{{- end -}}

{{/* ── Jobs ────────────────────────────────────────────────────────────────────────────────────── */}}

{{/* (list $ COMPONENT) */}}
{{- define "twin.jobPod" -}}
{{- $root := index . 0 -}}
restartPolicy: Never
serviceAccountName: {{ include "twin.name" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets: {{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
securityContext: {{- include "twin.podSecurity" $root | nindent 2 }}
{{- include "twin.placing" (dict "root" $root "values" dict "component" (index . 1) "worker" true) }}
{{- end -}}

{{/* (list $ RESOURCES): the feature service's image has the drivers of all stores. */}}
{{- define "twin.storesContainer" -}}
{{- $root := index . 0 -}}
image: {{ include "twin.image" (list $root "feature") }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
env:
  - {name: HOME, value: /tmp}
  - {name: TWIN_DATA_DIR, value: /tmp/twin}
  {{- include "twin.env.documents" $root | trim | nindent 2 }}
  {{- include "twin.env.index" $root | trim | nindent 2 }}
securityContext: {{- include "twin.containerSecurity" $root | nindent 2 }}
resources: {{- toYaml (index . 1) | nindent 2 }}
{{- end -}}

{{/* Of who calls the gateway with the admin's key. */}}
{{- define "twin.env.client" -}}
- {name: HOME, value: /tmp}
- {name: TWIN_DATA_DIR, value: /tmp/twin}
- {name: TWIN_URL, value: "http://{{ include "twin.host" (list . "gateway") }}:{{ .Values.gateway.servicePort }}"}
{{ include "twin.fromSecret" (list . "TWIN_API_KEY" (include "twin.secret" .) "admin-key") }}
{{- end -}}

{{/* ── Engines ─────────────────────────────────────────────────────────────────────────────────── */}}

{{/*
A server of a model on GPUs, which reads its weights from the shared volume and pulls nothing.

    root, component, values    values: image, model, revision, replicas, resources
    port, args, env, gpus
    shm                        size of /dev/shm; empty: the runtime's own
    ready, alive               paths
    headless                   its callers choose among the pods themselves
    start, drain               seconds
    scaled                     replicas are the autoscaler's
*/}}
{{- define "twin.engine" -}}
{{- $root := .root -}}
{{- $v := .root.Values -}}
{{- $it := list .root .component -}}
{{- $gpus := dict $v.gpu.resource .gpus -}}
{{- $mark := printf "%s@%s" .values.model .values.revision | sha256sum | trunc 16 -}}
{{ include "twin.serviceAccount" $it }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ include "twin.name" $it }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{- include "twin.labels" $it | nindent 4 }}
spec:
  {{- if .headless }}
  clusterIP: None
  {{- end }}
  selector: {{- include "twin.selector" $it | nindent 4 }}
  ports:
    - {name: http, port: {{ .port }}, targetPort: http}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "twin.name" $it }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{- include "twin.labels" $it | nindent 4 }}
spec:
  {{- if not .scaled }}
  replicas: {{ .values.replicas }}
  {{- end }}
  # A GPU to spare for a roll-out is rare: with one pod it ends before the next begins.
  strategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 1, maxSurge: 0}}
  progressDeadlineSeconds: {{ add .start 600 }}
  selector:
    matchLabels: {{- include "twin.selector" $it | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "twin.labels" $it | nindent 8 }}
        {{- with $v.pods.labels }}{{ toYaml . | nindent 8 }}{{ end }}
      annotations:
        kubectl.kubernetes.io/default-container: {{ .component }}
        {{- if $v.monitoring.annotations }}
        prometheus.io/scrape: "true"
        prometheus.io/port: {{ .port | quote }}
        {{- end }}
        {{- with $v.pods.annotations }}{{ toYaml . | nindent 8 }}{{ end }}
    spec:
      serviceAccountName: {{ include "twin.name" $it }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      securityContext: {{- include "twin.podSecurity" $root | nindent 8 }}
      terminationGracePeriodSeconds: {{ add $v.drain.preStopSeconds .drain 15 }}
      {{- with $v.gpu.runtimeClassName }}
      runtimeClassName: {{ . }}
      {{- end }}
      {{- include "twin.placing" (dict "root" $root "values" (dict "nodeSelector" $v.gpu.nodeSelector "tolerations" $v.gpu.tolerations) "component" .component "spread" true) | nindent 6 }}
      {{- if $v.weights.pull }}
      initContainers:
        - name: wait-for-weights
          image: {{ .values.image }}
          imagePullPolicy: {{ $v.image.pullPolicy }}
          command: [sh, -c, "until [ -e /data/ready-{{ $mark }} ]; do sleep 2; done"]
          securityContext: {{- include "twin.containerSecurity" $root | nindent 12 }}
          resources:
            requests: {cpu: 10m, memory: 16Mi, ephemeral-storage: 8Mi}
            limits: {memory: 64Mi, ephemeral-storage: 16Mi}
          volumeMounts:
            - {name: weights, mountPath: /data, readOnly: true}
      {{- end }}
      containers:
        - name: {{ .component }}
          image: {{ .values.image }}
          imagePullPolicy: {{ $v.image.pullPolicy }}
          args: {{- toYaml .args | nindent 12 }}
          env:
            - {name: HOME, value: /tmp}
            - {name: HF_HOME, value: /data}
            - {name: HF_HUB_OFFLINE, value: "1"}
            - {name: HF_HUB_DISABLE_TELEMETRY, value: "1"}
            - {name: TRITON_CACHE_DIR, value: /tmp/triton}
            {{- toYaml .env | nindent 12 }}
          ports:
            - {name: http, containerPort: {{ .port }}}
          # Loading takes minutes, and a full queue is no fault.
          startupProbe: {httpGet: {path: {{ .ready }}, port: http}, periodSeconds: 5, timeoutSeconds: 5, failureThreshold: {{ div (add .start 4) 5 }}}
          livenessProbe: {httpGet: {path: {{ .alive }}, port: http}, periodSeconds: 20, timeoutSeconds: 15, failureThreshold: 9}
          readinessProbe: {httpGet: {path: {{ .ready }}, port: http}, periodSeconds: 10, timeoutSeconds: 30, failureThreshold: 6}
          lifecycle: {preStop: {sleep: {seconds: {{ $v.drain.preStopSeconds }}}}}
          securityContext: {{- include "twin.containerSecurity" $root | nindent 12 }}
          resources:
            requests: {{- toYaml (merge (deepCopy .values.resources.requests) $gpus) | nindent 14 }}
            limits: {{- toYaml (merge (deepCopy .values.resources.limits) $gpus) | nindent 14 }}
          volumeMounts:
            # Read by many, written by the Job alone; locks of the hub's library lie beside.
            - {name: weights, mountPath: /data, readOnly: true}
            - {name: tmp, mountPath: /tmp}
            {{- if .shm }}
            - {name: shm, mountPath: /dev/shm}
            {{- end }}
      volumes:
        - name: weights
          persistentVolumeClaim: {claimName: {{ $v.weights.existingClaim | default (include "twin.name" (list $root "weights")) }}}
        - name: tmp
          emptyDir: {sizeLimit: 8Gi}
        {{- if .shm }}
        - name: shm
          emptyDir: {medium: Memory, sizeLimit: {{ .shm }}}
        {{- end }}
---
{{ include "twin.budget" (list $root .component .values.replicas .scaled) }}
{{- end -}}
