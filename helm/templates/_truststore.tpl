{{- /*
A Java trust store, as Java reads no PEM: the format JKS, version 2, of trusted certificates alone. Source: OpenJDK 17,
sun/security/provider/JavaKeyStore.java, engineLoad and engineStore. Strings are bytes here, as in Go.
*/ -}}

{{- /* The store. Arguments: a list of PEM texts. Its password is Java's usual one, `changeit`. */ -}}
{{- define "attache.truststore" -}}
{{- $certificates := list -}}
{{- range . -}}
  {{- range rest (splitList "-----BEGIN CERTIFICATE-----" .) -}}
    {{- $certificates = append $certificates (first (splitList "-----END CERTIFICATE-----" .) | replace "\n" "" | replace "\r" "" | trim | b64dec) -}}
  {{- end -}}
{{- end -}}
{{- /* Magic, version, number of entries. */ -}}
{{- $parts := list ("/u3+7Q==" | b64dec) (include "attache.bytes" (dict "number" 2 "places" (list 16777216 65536 256 1))) -}}
{{- $parts = append $parts (include "attache.bytes" (dict "number" (len $certificates) "places" (list 16777216 65536 256 1))) -}}
{{- range $i, $certificate := $certificates -}}
  {{- /* A trusted certificate, its alias, the time 0, its type and its length. */ -}}
  {{- $alias := printf "authority-%d" $i -}}
  {{- $parts = append $parts (include "attache.bytes" (dict "number" 2 "places" (list 16777216 65536 256 1))) -}}
  {{- $parts = append $parts (include "attache.bytes" (dict "number" (len $alias) "places" (list 256 1))) -}}
  {{- $parts = concat $parts (list $alias ("AAAAAAAAAAA=" | b64dec) (include "attache.bytes" (dict "number" 5 "places" (list 256 1))) "X.509") -}}
  {{- $parts = append $parts (include "attache.bytes" (dict "number" (len $certificate) "places" (list 16777216 65536 256 1))) -}}
  {{- $parts = append $parts $certificate -}}
{{- end -}}
{{- $store := join "" $parts -}}
{{- /* The password in UTF-16, a word of Java's authors, the store: by their sum it is checked. */ -}}
{{- $sum := sha1sum (printf "%sMighty Aphrodite%s" ("AGMAaABhAG4AZwBlAGkAdA==" | b64dec) $store) -}}
{{- $values := dict "a" 10 "b" 11 "c" 12 "d" 13 "e" 14 "f" 15 -}}
{{- range until 10 -}}{{- $_ := set $values (toString .) . -}}{{- end -}}
{{- $store -}}
{{- range untilStep 0 40 2 -}}
  {{- $high := get $values (substr . (int (add . 1)) $sum) -}}
  {{- $low := get $values (substr (int (add . 1)) (int (add . 2)) $sum) -}}
  {{- include "attache.bytes" (dict "number" (add (mul 16 $high) $low) "places" (list 1)) -}}
{{- end -}}
{{- end -}}

{{- /* A number as bytes, the highest first. Arguments: number, places (what each byte counts). */ -}}
{{- define "attache.bytes" -}}
{{- $table := "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+P0BBQkNERUZHSElKS0xNTk9QUVJTVFVWV1hZWltcXV5fYGFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6e3x9fn+AgYKDhIWGh4iJiouMjY6PkJGSk5SVlpeYmZqbnJ2en6ChoqOkpaanqKmqq6ytrq+wsbKztLW2t7i5uru8vb6/wMHCw8TFxsfIycrLzM3Oz9DR0tPU1dbX2Nna29zd3t/g4eLj5OXm5+jp6uvs7e7v8PHy8/T19vf4+fr7/P3+/w==" | b64dec -}}
{{- range .places -}}{{- $byte := mod (div $.number .) 256 | int -}}{{- substr $byte (int (add $byte 1)) $table -}}{{- end -}}
{{- end -}}
