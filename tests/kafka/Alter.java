import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ScramCredentialInfo;
import org.apache.kafka.clients.admin.ScramMechanism;
import org.apache.kafka.clients.admin.UserScramCredentialUpsertion;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourceType;

/**
 * Changes, while brokers run, what they take for a password, a property of broker 1, or to whom alone a topic is open.
 *
 * <p>Usage: java Alter.java BROKERS password USER PASSWORD, or BROKERS property NAME VALUE, or BROKERS only PRINCIPAL TOPIC
 */
public final class Alter {
    public static void main(String[] arguments) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", arguments[0]))) {
            if (arguments[1].equals("password")) {
                ScramCredentialInfo info = new ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096);
                admin.alterUserScramCredentials(List.of(new UserScramCredentialUpsertion(arguments[2], info, arguments[3])))
                        .all().get();
            } else if (arguments[1].equals("only")) {
                ResourcePattern topic = new ResourcePattern(ResourceType.TOPIC, arguments[3], PatternType.LITERAL);
                AccessControlEntry everything =
                        new AccessControlEntry(arguments[2], "*", AclOperation.ALL, AclPermissionType.ALLOW);
                admin.createAcls(List.of(new AclBinding(topic, everything))).all().get();
            } else {
                ConfigResource broker = new ConfigResource(ConfigResource.Type.BROKER, "1");
                AlterConfigOp set = new AlterConfigOp(new ConfigEntry(arguments[2], arguments[3]), AlterConfigOp.OpType.SET);
                admin.incrementalAlterConfigs(Map.of(broker, List.of(set))).all().get();
            }
        }
    }
}
