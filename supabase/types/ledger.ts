
export type Json = string | number | boolean | null | { [key: string]: Json | undefined } | Json[]

export type Database = {
  
  "ledger": {
          Tables: {
            "universal_registry": {
                  Row: {
                    "accepted_at": string,"app_id": string | null,"at": string,"attempt": number | null,"code": string | null,"compiled_hash": string | null,"confidence": number | null,"confirmed_by": string | null,"content": Json | null,"cost": number | null,"curr_hash": string | null,"description": string | null,"device_id": string | null,"did": string | null,"duration_ms": number | null,"effective_at": string | null,"entity_type": string,"error": Json | null,"expires_at": string | null,"id": string,"idempotency_key": string | null,"if_doubt": string | null,"if_not": string | null,"if_ok": string | null,"input": Json | null,"is_deleted": boolean,"kind": string | null,"language": string | null,"layer": string | null,"links": Json | null,"metadata": Json | null,"model": string | null,"name": string | null,"output": Json | null,"owner_id": string,"parent_id": string | null,"policy_id": string | null,"prev_hash": string | null,"priority": number | null,"provider_id": string | null,"public_key": string | null,"reason": string | null,"related_to": (string)[] | null,"runtime": string | null,"scheduled_at": string | null,"schema_id": string | null,"scopes": (string)[] | null,"sensitivity": string | null,"seq": number,"session_id": string | null,"severity": string | null,"sig_alg": string | null,"sig_key_id": string | null,"signature": string | null,"status": string | null,"tags": (string)[] | null,"tenant_id": string,"this": string | null,"timeout_ms": number | null,"tokens_in": number | null,"tokens_out": number | null,"tool_use_count": number | null,"trace_id": string | null,"ttl_at": string | null,"unit": string | null,"value": number | null,"version": string | null,"visibility": string,"who": string,"xact": unknown
                  }
                  ComputedFields: never
                  Insert: {
                    "accepted_at"?: string,"app_id"?: string | null,"at"?: string,"attempt"?: number | null,"code"?: string | null,"compiled_hash"?: string | null,"confidence"?: number | null,"confirmed_by"?: string | null,"content"?: Json | null,"cost"?: number | null,"curr_hash"?: string | null,"description"?: string | null,"device_id"?: string | null,"did"?: string | null,"duration_ms"?: number | null,"effective_at"?: string | null,"entity_type": string,"error"?: Json | null,"expires_at"?: string | null,"id"?: string,"idempotency_key"?: string | null,"if_doubt"?: string | null,"if_not"?: string | null,"if_ok"?: string | null,"input"?: Json | null,"is_deleted"?: boolean,"kind"?: string | null,"language"?: string | null,"layer"?: string | null,"links"?: Json | null,"metadata"?: Json | null,"model"?: string | null,"name"?: string | null,"output"?: Json | null,"owner_id"?: string,"parent_id"?: string | null,"policy_id"?: string | null,"prev_hash"?: string | null,"priority"?: number | null,"provider_id"?: string | null,"public_key"?: string | null,"reason"?: string | null,"related_to"?: (string)[] | null,"runtime"?: string | null,"scheduled_at"?: string | null,"schema_id"?: string | null,"scopes"?: (string)[] | null,"sensitivity"?: string | null,"seq"?: number,"session_id"?: string | null,"severity"?: string | null,"sig_alg"?: string | null,"sig_key_id"?: string | null,"signature"?: string | null,"status"?: string | null,"tags"?: (string)[] | null,"tenant_id"?: string,"this"?: string | null,"timeout_ms"?: number | null,"tokens_in"?: number | null,"tokens_out"?: number | null,"tool_use_count"?: number | null,"trace_id"?: string | null,"ttl_at"?: string | null,"unit"?: string | null,"value"?: number | null,"version"?: string | null,"visibility"?: string,"who"?: string,"xact"?: unknown
                  }
                  Update: {
                    "accepted_at"?: string,"app_id"?: string | null,"at"?: string,"attempt"?: number | null,"code"?: string | null,"compiled_hash"?: string | null,"confidence"?: number | null,"confirmed_by"?: string | null,"content"?: Json | null,"cost"?: number | null,"curr_hash"?: string | null,"description"?: string | null,"device_id"?: string | null,"did"?: string | null,"duration_ms"?: number | null,"effective_at"?: string | null,"entity_type"?: string,"error"?: Json | null,"expires_at"?: string | null,"id"?: string,"idempotency_key"?: string | null,"if_doubt"?: string | null,"if_not"?: string | null,"if_ok"?: string | null,"input"?: Json | null,"is_deleted"?: boolean,"kind"?: string | null,"language"?: string | null,"layer"?: string | null,"links"?: Json | null,"metadata"?: Json | null,"model"?: string | null,"name"?: string | null,"output"?: Json | null,"owner_id"?: string,"parent_id"?: string | null,"policy_id"?: string | null,"prev_hash"?: string | null,"priority"?: number | null,"provider_id"?: string | null,"public_key"?: string | null,"reason"?: string | null,"related_to"?: (string)[] | null,"runtime"?: string | null,"scheduled_at"?: string | null,"schema_id"?: string | null,"scopes"?: (string)[] | null,"sensitivity"?: string | null,"seq"?: number,"session_id"?: string | null,"severity"?: string | null,"sig_alg"?: string | null,"sig_key_id"?: string | null,"signature"?: string | null,"status"?: string | null,"tags"?: (string)[] | null,"tenant_id"?: string,"this"?: string | null,"timeout_ms"?: number | null,"tokens_in"?: number | null,"tokens_out"?: number | null,"tool_use_count"?: number | null,"trace_id"?: string | null,"ttl_at"?: string | null,"unit"?: string | null,"value"?: number | null,"version"?: string | null,"visibility"?: string,"who"?: string,"xact"?: unknown
                  }
                  Relationships: [
                    
                  ]
                }
          }
          Views: {
            "function_state": {
                  Row: {
                    "changed_at": string,"id": string,"last_execution_at": string | null,"last_execution_duration_ms": number | null,"last_execution_error_code": string | null,"last_execution_id": string | null,"last_execution_status": string | null,"last_request_at": string | null,"last_request_id": string | null,"last_request_status": string | null,"name": string | null,"open_requests": number | null,"owner_id": string,"seq": number,"status": string | null,"tenant_id": string,"visibility": string,"when": string
                  }
                  ComputedFields: never
                  Relationships: [
                    
                  ]
                },"history": {
                  Row: {
                    "accepted_at": string,"app_id": string | null,"at": string,"attempt": number | null,"code": string | null,"compiled_hash": string | null,"confidence": number | null,"confirmed_by": string | null,"content": Json | null,"cost": number | null,"curr_hash": string | null,"description": string | null,"device_id": string | null,"did": string | null,"duration_ms": number | null,"effective_at": string | null,"entity_type": string,"error": Json | null,"expires_at": string | null,"id": string,"idempotency_key": string | null,"if_doubt": string | null,"if_not": string | null,"if_ok": string | null,"input": Json | null,"is_deleted": boolean,"kind": string | null,"language": string | null,"layer": string | null,"links": Json | null,"metadata": Json | null,"model": string | null,"name": string | null,"output": Json | null,"owner_id": string,"parent_id": string | null,"policy_id": string | null,"prev_hash": string | null,"priority": number | null,"provider_id": string | null,"public_key": string | null,"reason": string | null,"related_to": (string)[] | null,"runtime": string | null,"scheduled_at": string | null,"schema_id": string | null,"scopes": (string)[] | null,"sensitivity": string | null,"seq": number,"session_id": string | null,"severity": string | null,"sig_alg": string | null,"sig_key_id": string | null,"signature": string | null,"status": string | null,"tags": (string)[] | null,"tenant_id": string,"this": string | null,"timeout_ms": number | null,"tokens_in": number | null,"tokens_out": number | null,"tool_use_count": number | null,"trace_id": string | null,"ttl_at": string | null,"unit": string | null,"value": number | null,"version": string | null,"visibility": string,"when": string,"who": string,"xact": unknown
                  }
                  ComputedFields: never
                  Insert: {
                           "accepted_at"?: string | null,"app_id"?: string | null,"at"?: string | null,"attempt"?: number | null,"code"?: string | null,"compiled_hash"?: string | null,"confidence"?: number | null,"confirmed_by"?: string | null,"content"?: Json | null,"cost"?: number | null,"curr_hash"?: string | null,"description"?: string | null,"device_id"?: string | null,"did"?: string | null,"duration_ms"?: number | null,"effective_at"?: string | null,"entity_type"?: string | null,"error"?: Json | null,"expires_at"?: string | null,"id"?: string | null,"idempotency_key"?: string | null,"if_doubt"?: string | null,"if_not"?: string | null,"if_ok"?: string | null,"input"?: Json | null,"is_deleted"?: boolean | null,"kind"?: string | null,"language"?: string | null,"layer"?: string | null,"links"?: Json | null,"metadata"?: Json | null,"model"?: string | null,"name"?: string | null,"output"?: Json | null,"owner_id"?: string | null,"parent_id"?: string | null,"policy_id"?: string | null,"prev_hash"?: string | null,"priority"?: number | null,"provider_id"?: string | null,"public_key"?: string | null,"reason"?: string | null,"related_to"?: (string)[] | null,"runtime"?: string | null,"scheduled_at"?: string | null,"schema_id"?: string | null,"scopes"?: (string)[] | null,"sensitivity"?: string | null,"seq"?: number | null,"session_id"?: string | null,"severity"?: string | null,"sig_alg"?: string | null,"sig_key_id"?: string | null,"signature"?: string | null,"status"?: string | null,"tags"?: (string)[] | null,"tenant_id"?: string | null,"this"?: string | null,"timeout_ms"?: number | null,"tokens_in"?: number | null,"tokens_out"?: number | null,"tool_use_count"?: number | null,"trace_id"?: string | null,"ttl_at"?: string | null,"unit"?: string | null,"value"?: number | null,"version"?: string | null,"visibility"?: string | null,"when"?: string | null,"who"?: string | null,"xact"?: unknown
                         }
                        Update: {
                           "accepted_at"?: string | null,"app_id"?: string | null,"at"?: string | null,"attempt"?: number | null,"code"?: string | null,"compiled_hash"?: string | null,"confidence"?: number | null,"confirmed_by"?: string | null,"content"?: Json | null,"cost"?: number | null,"curr_hash"?: string | null,"description"?: string | null,"device_id"?: string | null,"did"?: string | null,"duration_ms"?: number | null,"effective_at"?: string | null,"entity_type"?: string | null,"error"?: Json | null,"expires_at"?: string | null,"id"?: string | null,"idempotency_key"?: string | null,"if_doubt"?: string | null,"if_not"?: string | null,"if_ok"?: string | null,"input"?: Json | null,"is_deleted"?: boolean | null,"kind"?: string | null,"language"?: string | null,"layer"?: string | null,"links"?: Json | null,"metadata"?: Json | null,"model"?: string | null,"name"?: string | null,"output"?: Json | null,"owner_id"?: string | null,"parent_id"?: string | null,"policy_id"?: string | null,"prev_hash"?: string | null,"priority"?: number | null,"provider_id"?: string | null,"public_key"?: string | null,"reason"?: string | null,"related_to"?: (string)[] | null,"runtime"?: string | null,"scheduled_at"?: string | null,"schema_id"?: string | null,"scopes"?: (string)[] | null,"sensitivity"?: string | null,"seq"?: number | null,"session_id"?: string | null,"severity"?: string | null,"sig_alg"?: string | null,"sig_key_id"?: string | null,"signature"?: string | null,"status"?: string | null,"tags"?: (string)[] | null,"tenant_id"?: string | null,"this"?: string | null,"timeout_ms"?: number | null,"tokens_in"?: number | null,"tokens_out"?: number | null,"tool_use_count"?: number | null,"trace_id"?: string | null,"ttl_at"?: string | null,"unit"?: string | null,"value"?: number | null,"version"?: string | null,"visibility"?: string | null,"when"?: string | null,"who"?: string | null,"xact"?: unknown
                         }
                        Relationships: [
                    
                  ]
                },"visible_timeline": {
                  Row: {
                    "accepted_at": string,"app_id": string | null,"at": string,"attempt": number | null,"code": string | null,"compiled_hash": string | null,"confidence": number | null,"confirmed_by": string | null,"content": Json | null,"cost": number | null,"curr_hash": string | null,"description": string | null,"device_id": string | null,"did": string | null,"duration_ms": number | null,"effective_at": string | null,"entity_type": string,"error": Json | null,"expires_at": string | null,"id": string,"idempotency_key": string | null,"if_doubt": string | null,"if_not": string | null,"if_ok": string | null,"input": Json | null,"is_deleted": boolean,"kind": string | null,"language": string | null,"layer": string | null,"links": Json | null,"metadata": Json | null,"model": string | null,"name": string | null,"output": Json | null,"owner_id": string,"parent_id": string | null,"policy_id": string | null,"prev_hash": string | null,"priority": number | null,"provider_id": string | null,"public_key": string | null,"reason": string | null,"related_to": (string)[] | null,"runtime": string | null,"scheduled_at": string | null,"schema_id": string | null,"scopes": (string)[] | null,"sensitivity": string | null,"seq": number,"session_id": string | null,"severity": string | null,"sig_alg": string | null,"sig_key_id": string | null,"signature": string | null,"status": string | null,"tags": (string)[] | null,"tenant_id": string,"this": string | null,"timeout_ms": number | null,"tokens_in": number | null,"tokens_out": number | null,"tool_use_count": number | null,"trace_id": string | null,"ttl_at": string | null,"unit": string | null,"value": number | null,"version": string | null,"visibility": string,"when": string,"who": string,"xact": unknown
                  }
                  ComputedFields: never
                  Insert: {
                           "accepted_at"?: string | null,"app_id"?: string | null,"at"?: string | null,"attempt"?: number | null,"code"?: string | null,"compiled_hash"?: string | null,"confidence"?: number | null,"confirmed_by"?: string | null,"content"?: Json | null,"cost"?: number | null,"curr_hash"?: string | null,"description"?: string | null,"device_id"?: string | null,"did"?: string | null,"duration_ms"?: number | null,"effective_at"?: string | null,"entity_type"?: string | null,"error"?: Json | null,"expires_at"?: string | null,"id"?: string | null,"idempotency_key"?: string | null,"if_doubt"?: string | null,"if_not"?: string | null,"if_ok"?: string | null,"input"?: Json | null,"is_deleted"?: boolean | null,"kind"?: string | null,"language"?: string | null,"layer"?: string | null,"links"?: Json | null,"metadata"?: Json | null,"model"?: string | null,"name"?: string | null,"output"?: Json | null,"owner_id"?: string | null,"parent_id"?: string | null,"policy_id"?: string | null,"prev_hash"?: string | null,"priority"?: number | null,"provider_id"?: string | null,"public_key"?: string | null,"reason"?: string | null,"related_to"?: (string)[] | null,"runtime"?: string | null,"scheduled_at"?: string | null,"schema_id"?: string | null,"scopes"?: (string)[] | null,"sensitivity"?: string | null,"seq"?: number | null,"session_id"?: string | null,"severity"?: string | null,"sig_alg"?: string | null,"sig_key_id"?: string | null,"signature"?: string | null,"status"?: string | null,"tags"?: (string)[] | null,"tenant_id"?: string | null,"this"?: string | null,"timeout_ms"?: number | null,"tokens_in"?: number | null,"tokens_out"?: number | null,"tool_use_count"?: number | null,"trace_id"?: string | null,"ttl_at"?: string | null,"unit"?: string | null,"value"?: number | null,"version"?: string | null,"visibility"?: string | null,"when"?: string | null,"who"?: string | null,"xact"?: unknown
                         }
                        Update: {
                           "accepted_at"?: string | null,"app_id"?: string | null,"at"?: string | null,"attempt"?: number | null,"code"?: string | null,"compiled_hash"?: string | null,"confidence"?: number | null,"confirmed_by"?: string | null,"content"?: Json | null,"cost"?: number | null,"curr_hash"?: string | null,"description"?: string | null,"device_id"?: string | null,"did"?: string | null,"duration_ms"?: number | null,"effective_at"?: string | null,"entity_type"?: string | null,"error"?: Json | null,"expires_at"?: string | null,"id"?: string | null,"idempotency_key"?: string | null,"if_doubt"?: string | null,"if_not"?: string | null,"if_ok"?: string | null,"input"?: Json | null,"is_deleted"?: boolean | null,"kind"?: string | null,"language"?: string | null,"layer"?: string | null,"links"?: Json | null,"metadata"?: Json | null,"model"?: string | null,"name"?: string | null,"output"?: Json | null,"owner_id"?: string | null,"parent_id"?: string | null,"policy_id"?: string | null,"prev_hash"?: string | null,"priority"?: number | null,"provider_id"?: string | null,"public_key"?: string | null,"reason"?: string | null,"related_to"?: (string)[] | null,"runtime"?: string | null,"scheduled_at"?: string | null,"schema_id"?: string | null,"scopes"?: (string)[] | null,"sensitivity"?: string | null,"seq"?: number | null,"session_id"?: string | null,"severity"?: string | null,"sig_alg"?: string | null,"sig_key_id"?: string | null,"signature"?: string | null,"status"?: string | null,"tags"?: (string)[] | null,"tenant_id"?: string | null,"this"?: string | null,"timeout_ms"?: number | null,"tokens_in"?: number | null,"tokens_out"?: number | null,"tool_use_count"?: number | null,"trace_id"?: string | null,"ttl_at"?: string | null,"unit"?: string | null,"value"?: number | null,"version"?: string | null,"visibility"?: string | null,"when"?: string | null,"who"?: string | null,"xact"?: unknown
                         }
                        Relationships: [
                    
                  ]
                }
          }
          Functions: {
            "append":
{ Args: { "p_span": Json }; Returns: Record<string, unknown>
                           },
"append_batch":
{ Args: { "p_spans": Json }; Returns: {
              "accepted_at": string,"curr_hash": string,"error": Json,"id": string,"is_new": boolean,"place": number,"seq": number
            }[]
                           },
"as_of":
{ Args: { "p_at": string,"p_before"?: string,"p_before_id"?: string,"p_entity_type"?: string,"p_id"?: string,"p_limit"?: number,"p_tenant_id"?: string }; Returns: {
              "accepted_at": string,
"app_id": string | null,
"at": string,
"attempt": number | null,
"code": string | null,
"compiled_hash": string | null,
"confidence": number | null,
"confirmed_by": string | null,
"content": Json | null,
"cost": number | null,
"curr_hash": string | null,
"description": string | null,
"device_id": string | null,
"did": string | null,
"duration_ms": number | null,
"effective_at": string | null,
"entity_type": string,
"error": Json | null,
"expires_at": string | null,
"id": string,
"idempotency_key": string | null,
"if_doubt": string | null,
"if_not": string | null,
"if_ok": string | null,
"input": Json | null,
"is_deleted": boolean,
"kind": string | null,
"language": string | null,
"layer": string | null,
"links": Json | null,
"metadata": Json | null,
"model": string | null,
"name": string | null,
"output": Json | null,
"owner_id": string,
"parent_id": string | null,
"policy_id": string | null,
"prev_hash": string | null,
"priority": number | null,
"provider_id": string | null,
"public_key": string | null,
"reason": string | null,
"related_to": (string)[] | null,
"runtime": string | null,
"scheduled_at": string | null,
"schema_id": string | null,
"scopes": (string)[] | null,
"sensitivity": string | null,
"seq": number,
"session_id": string | null,
"severity": string | null,
"sig_alg": string | null,
"sig_key_id": string | null,
"signature": string | null,
"status": string | null,
"tags": (string)[] | null,
"tenant_id": string,
"this": string | null,
"timeout_ms": number | null,
"tokens_in": number | null,
"tokens_out": number | null,
"tool_use_count": number | null,
"trace_id": string | null,
"ttl_at": string | null,
"unit": string | null,
"value": number | null,
"version": string | null,
"visibility": string,
"when": string,
"who": string,
"xact": unknown
            }[]
                          SetofOptions: {
        from: "*"
        to: "history"
        isOneToOne: false
        isSetofReturn: true
      } },
"current_tenant_id":
{ Args: Record<PropertyKey, never>; Returns: string
                           },
"current_user_id":
{ Args: Record<PropertyKey, never>; Returns: string
                           },
"guard_check":
{ Args: Record<PropertyKey, never>; Returns: {
              "mend": string,"problem": string,"wall": string
            }[]
                           },
"idempotency_id":
{ Args: { "p_key": string,"p_tenant_id": string }; Returns: string
                           },
"import_begin":
{ Args: Record<PropertyKey, never>; Returns: undefined
                           },
"import_end":
{ Args: { "p_keep_malformed"?: boolean }; Returns: Json
                           },
"is_callable":
{ Args: { "p_function_id": string,"p_owner_id": string,"p_tenant_id": string }; Returns: boolean
                           },
"is_governor":
{ Args: Record<PropertyKey, never>; Returns: boolean
                           },
"manifest_in_force":
{ Args: Record<PropertyKey, never>; Returns: {
              "accepted_at": string,"newest_seq": number,"seq": number
            }[]
                           },
"may_follow":
{ Args: { "p_after": string,"p_before": string,"p_entity_type": string,"p_is_engine": boolean,"p_tenant_id": string }; Returns: boolean
                           },
"result":
{ Args: { "p_request_id": string }; Returns: {
              "attempt": number,"done_at": string,"duration_ms": number,"error": Json,"execution_id": string,"function_id": string,"function_seq": number,"is_done": boolean,"output": Json,"reason": string,"request_id": string,"requested_at": string,"status": string
            }[]
                           },
"uuid7":
{ Args: Record<PropertyKey, never>; Returns: string
                           }
          }
          Enums: {
            [_ in never]: never
          }
          CompositeTypes: {
            [_ in never]: never
          }
        }
}

type DatabaseWithoutInternals = Omit<Database, '__InternalSupabase'>

type DefaultSchema = DatabaseWithoutInternals[Extract<keyof Database, "ledger">]

export type Tables<
  DefaultSchemaTableNameOrOptions extends
    | keyof (DefaultSchema["Tables"] & DefaultSchema["Views"])
    | { schema: keyof DatabaseWithoutInternals },
  TableName extends DefaultSchemaTableNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals
  }
    ? keyof (DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"] &
        DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Views"])
    : never = never
> = DefaultSchemaTableNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? (DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"] &
      DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Views"])[TableName] extends {
      Row: infer R
    }
    ? R
    : never
  : DefaultSchemaTableNameOrOptions extends keyof (DefaultSchema["Tables"] & DefaultSchema["Views"])
  ? (DefaultSchema["Tables"] & DefaultSchema["Views"])[DefaultSchemaTableNameOrOptions] extends {
      Row: infer R
    }
    ? R
    : never
  : never

export type TablesInsert<
  DefaultSchemaTableNameOrOptions extends
    | keyof DefaultSchema["Tables"]
    | { schema: keyof DatabaseWithoutInternals },
  TableName extends DefaultSchemaTableNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals
  }
    ? keyof DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"]
    : never = never
> = DefaultSchemaTableNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"][TableName] extends {
      Insert: infer I
    }
    ? I
    : never
  : DefaultSchemaTableNameOrOptions extends keyof DefaultSchema["Tables"]
  ? DefaultSchema["Tables"][DefaultSchemaTableNameOrOptions] extends {
      Insert: infer I
    }
    ? I
    : never
  : never

export type TablesUpdate<
  DefaultSchemaTableNameOrOptions extends
    | keyof DefaultSchema["Tables"]
    | { schema: keyof DatabaseWithoutInternals },
  TableName extends DefaultSchemaTableNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals
  }
    ? keyof DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"]
    : never = never
> = DefaultSchemaTableNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"][TableName] extends {
      Update: infer U
    }
    ? U
    : never
  : DefaultSchemaTableNameOrOptions extends keyof DefaultSchema["Tables"]
  ? DefaultSchema["Tables"][DefaultSchemaTableNameOrOptions] extends {
      Update: infer U
    }
    ? U
    : never
  : never

export type Enums<
  DefaultSchemaEnumNameOrOptions extends
    | keyof DefaultSchema["Enums"]
    | { schema: keyof DatabaseWithoutInternals },
  EnumName extends DefaultSchemaEnumNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals
  }
    ? keyof DatabaseWithoutInternals[DefaultSchemaEnumNameOrOptions["schema"]]["Enums"]
    : never = never
> = DefaultSchemaEnumNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[DefaultSchemaEnumNameOrOptions["schema"]]["Enums"][EnumName]
  : DefaultSchemaEnumNameOrOptions extends keyof DefaultSchema["Enums"]
  ? DefaultSchema["Enums"][DefaultSchemaEnumNameOrOptions]
  : never

export type CompositeTypes<
  PublicCompositeTypeNameOrOptions extends
    | keyof DefaultSchema["CompositeTypes"]
    | { schema: keyof DatabaseWithoutInternals },
  CompositeTypeName extends PublicCompositeTypeNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals
  }
    ? keyof DatabaseWithoutInternals[PublicCompositeTypeNameOrOptions["schema"]]["CompositeTypes"]
    : never = never
> = PublicCompositeTypeNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[PublicCompositeTypeNameOrOptions["schema"]]["CompositeTypes"][CompositeTypeName]
  : PublicCompositeTypeNameOrOptions extends keyof DefaultSchema["CompositeTypes"]
  ? DefaultSchema["CompositeTypes"][PublicCompositeTypeNameOrOptions]
  : never

export const Constants = {
  "ledger": {
          Enums: {
            
          }
        }
} as const
