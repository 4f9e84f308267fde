{{- /*
How a pod's Envoy puts a provider's key on a request: it reads the key's file, at most once a second. By SDS, as elsewhere (_cluster.tpl), it
would read it when the folder changes, and the kubelet links the name of a new file only after that: a key that came after its provider was missed.
*/ -}}

{{- /* An HTTP filter in the place of the injector, JSON. Arguments: injector (its Generic credential), keys (the folder). */ -}}
{{- define "attache.sidecar.key" -}}
{{- $file := printf "%s/%s" .keys .injector.credential.name -}}
{{- $source := include "attache.sidecar.key.source" (dict "file" $file "header" .injector.header "prefix" (.injector.header_value_prefix | default "")) -}}
{{- $lua := dict "@type" "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua" "default_source_code" (dict "inline_string" $source) -}}
{{- dict "name" "envoy.filters.http.lua" "typed_config" $lua | toJson -}}
{{- end -}}

{{- /* Without a key file the request goes without a credential. Files often end in a line's end, which is no part of a key. */ -}}
{{- define "attache.sidecar.key.source" -}}
local value, looked
local function look(request)
  local file = io.open({{ .file | quote }})
  if not file then return nil end
  local key = (file:read("*a") or ""):gsub("%s+$", "")
  file:close()
  if key == "" then return nil end
  if not key:find("%c") then return {{ .prefix | quote }} .. key end
  request:logErr({{ printf "%s: a key is one line without control characters; this one is not used" .file | quote }})
end
function envoy_on_request(request)
  local now = os.time()
  if now ~= looked then value, looked = look(request), now end
  if value then request:headers():replace({{ .header | quote }}, value) end
end
{{- end -}}
